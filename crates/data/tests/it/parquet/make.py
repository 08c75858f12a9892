"""Makes the files beside it with pyarrow: every codec, forms of columns, and two bombs."""
import io, json, pathlib
import pyarrow as pa, pyarrow.parquet as pq
from PIL import Image

here = pathlib.Path(__file__).parent


def png(i):
    out = io.BytesIO()
    Image.new("RGB", (2, 2), (i * 20, 0, 0)).save(out, "PNG")
    return out.getvalue()


N = 6
image = [dict(bytes=png(i), path=f"{i}.png") for i in range(N)]
text = [f"text {i}" for i in range(N)]
plain = dict(image=image, text=text, label=[i % 2 for i in range(N)])


def write(name, columns, types=None, **options):
    table = pa.table(columns) if types is None else pa.table(columns, schema=pa.schema(types))
    options = dict(compression="none", store_schema=False) | options
    pq.write_table(table, here / f"{name}.parquet", **options)


for codec in ["none", "snappy", "gzip", "brotli", "zstd", "lz4"]:
    write(f"codec-{codec}", plain, compression=codec)
write("codec-zstd-v2", plain, compression="zstd", data_page_version="2.0", write_page_checksum=True)
write("codec-delta", plain, use_dictionary=False, data_page_version="2.0",
      column_encoding={"text": "DELTA_LENGTH_BYTE_ARRAY", "label": "DELTA_BINARY_PACKED"})
write("delta-strings", plain, use_dictionary=False, column_encoding={"text": "DELTA_BYTE_ARRAY"})
write("label-uint64", plain | dict(label=pa.array([i % 2 for i in range(N)], pa.uint64())))
write("label-whole", plain | dict(label=[float(i % 2) for i in range(N - 1)] + [None]))
write("label-decimal", plain | dict(label=[i / 4 for i in range(N - 1)] + [float("nan")]))
write("label-bool", plain | dict(label=[i % 2 == 0 for i in range(N)]))
write("label-lists", plain | dict(label=[[0, 1], [1], [], [2], [0, 2], [1, 2]]))
write("label-vectors", plain | dict(label=[[i / 4, 1.0] for i in range(N)]))
write("lists", dict(images=[[x, image[0]] for x in image[:-1]] + [[]], caption=[[t, "x"] for t in text],
                    label=plain["label"]))
write("bytes", dict(image=[png(i) for i in range(N)], text=[t.encode() for t in text], label=plain["label"]))
write("other-names", dict(shown=image, ocr_text=text, url=text, label=plain["label"]))
write("two-texts", dict(image=image, question=text, answer=text, label=plain["label"]))
write("split-column", plain | dict(split=["train", "training", "train", "validation", "test", "extra"],
                                   id=[0, 1, 2, 0, 0, 5]))
# One text of 200 MiB, and one of 1 MiB that 100,000 rows name.
write("bomb-zstd", dict(text=["a" * (200 << 20)], label=["x"]), use_dictionary=False, compression="zstd",
      write_statistics=False)
one = pa.DictionaryArray.from_arrays(pa.array([0] * 100_000, pa.int32()), ["a" * (1 << 20)])
write("bomb-dictionary", dict(text=one, label=["x"] * 100_000), compression="zstd", write_statistics=False)
