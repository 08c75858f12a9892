//! Files that are made to hurt.

/// A way to spoil a good file.
pub(super) type Spoil = fn(&[u8]) -> Vec<u8>;

/// Ways to spoil a good file, by name.
pub(super) const SPOILED: &[(&str, Spoil)] = &[
    ("empty", |_| Vec::new()),
    ("one byte", |good| good[..1.min(good.len())].to_vec()),
    ("cut after the header", |good| good[..24.min(good.len())].to_vec()),
    ("cut in the middle", |good| good[..good.len() / 2].to_vec()),
    ("without its last byte", |good| good[..good.len().saturating_sub(1)].to_vec()),
    ("zeros from the middle", |good| patched(good, good.len() / 2, usize::MAX, 0)),
    ("ones from byte 16", |good| patched(good, 16, usize::MAX, 0xff)),
    ("a length of ones at the start", |good| patched(good, 0, 8, 0xff)),
    ("a length of ones at byte 16", |good| patched(good, 16, 8, 0xff)),
    ("a length of ones at the end", |good| patched(good, good.len().saturating_sub(8), 4, 0xff)),
    ("noise in every eighth byte", |good| {
        let spoil = |(i, byte): (usize, &u8)| if i % 8 == 5 { byte ^ (i * 37) as u8 } else { *byte };
        good.iter().enumerate().map(spoil).collect()
    }),
    ("doubled", |good| good.repeat(2)),
    ("a thousand times", |good| good.repeat(1000.min((20 << 20) / good.len().max(1)))),
    ("reversed", |good| good.iter().rev().copied().collect()),
    ("zeros before it", |good| [&[0; 4096], good].concat()),
    ("every number is huge", |good| numbers(good, b"9223372036854775807")),
    ("every number is negative", |good| numbers(good, b"-1")),
    ("every number is infinite", |good| numbers(good, b"1e999")),
    ("as UTF-16", |good| [&[0xff, 0xfe][..], &good.iter().flat_map(|b| [*b, 0]).collect::<Vec<_>>()].concat()),
];

fn patched(good: &[u8], from: usize, count: usize, byte: u8) -> Vec<u8> {
    let mut bad = good.to_vec();
    bad.iter_mut().skip(from).take(count).for_each(|place| *place = byte);
    bad
}

/// Every run of digits replaced.
fn numbers(good: &[u8], by: &[u8]) -> Vec<u8> {
    let mut bad = Vec::new();
    let mut before = b' ';
    for &byte in good {
        match (byte.is_ascii_digit(), before.is_ascii_digit()) {
            (true, false) => bad.extend(by),
            (true, true) => {}
            _ => bad.push(byte),
        }
        before = byte;
    }
    bad
}

/// Whole files: the parser that reads them, a name, and what stands in them.
pub(super) fn made() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let nested = |open: &str, times: usize| open.repeat(times).into_bytes();
    let png = |width: u32, height: u32| {
        let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
        bytes.extend([width.to_be_bytes(), height.to_be_bytes()].concat());
        bytes.extend([8, 2, 0, 0, 0, 0, 0, 0, 0]);
        bytes
    };
    let mut bmp = super::fixtures::bmp(4, |_, _| 0);
    bmp[18..26].copy_from_slice(&[0xff, 0xff, 0, 0, 0xff, 0xff, 0, 0]);
    let header = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let wide = format!("text,label,{}\n", (0..200_000).map(|i| i.to_string()).collect::<Vec<_>>().join(","));
    let classes = (0..200_000).map(|i| format!("red,{i}\n")).collect::<String>();
    vec![
        ("csv", "a line of 30 MB", [b"text,label\n".to_vec(), vec![b'x'; 30 << 20]].concat()),
        ("csv", "a quote that never ends", [b"text,label\n\"".to_vec(), b"a\n".repeat(1 << 20)].concat()),
        ("csv", "200,000 columns", wide.into_bytes()),
        ("csv", "200,000 classes", format!("text,label\n{classes}").into_bytes()),
        ("csv", "NULs", vec![0; 1 << 20]),
        ("csv", "line ends alone", b"\r\n".repeat(1 << 20)),
        ("tsv", "tabs alone", vec![b'\t'; 1 << 20]),
        ("jsonl", "deep arrays", nested("[", 1 << 20)),
        ("jsonl", "deep objects", nested("{\"a\":", 1 << 18)),
        ("jsonl", "a million labels", format!("{{\"text\":\"a\",\"labels\":[{}1]}}", "1,".repeat(1 << 20)).into_bytes()),
        ("jsonl", "half a surrogate", br#"{"text":"\ud800","label":"a"}"#.to_vec()),
        ("jsonl", "a number of a million digits", format!("{{\"label\":{}}}", "9".repeat(1 << 20)).into_bytes()),
        ("image", "a PNG of 4 billion pixels a side", png(u32::MAX, u32::MAX)),
        ("image", "a PNG of 60,000 pixels a side", png(60_000, 60_000)),
        ("image", "a PNG of no pixels", png(0, 0)),
        ("image", "a BMP of 65,535 pixels a side", bmp),
        ("weights", "a header of 2^63 bytes", [&(1u64 << 63).to_le_bytes()[..], b"{}"].concat()),
        ("weights", "a tensor of 2^60 numbers", header(r#"{"a":{"dtype":"F32","shape":[1152921504606846976],"data_offsets":[0,4611686018427387904]}}"#)),
        ("weights", "shapes whose product overflows", header(r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296,16],"data_offsets":[0,0]}}"#)),
        ("weights", "offsets that run backwards", header(r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[8,4]}}"#)),
        ("weights", "a deep header", header(&"{\"a\":".repeat(100_000))),
        ("pth", "a pickle that pops nothing", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.000000ts.".to_vec()),
        ("pth", "marks without end", [&b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03."[..], &[b'('; 1 << 20]].concat()),
        ("tokenizer", "deep JSON", nested("{\"model\":", 1 << 18)),
        ("tokenizer", "a null model", br#"{"version":"1.0","model":null}"#.to_vec()),
        ("bert", "deep JSON", nested("[", 1 << 20)),
        ("bert", "no layers", br#"{"hidden_size":0,"num_hidden_layers":0,"num_attention_heads":0,"intermediate_size":0,"vocab_size":0,"max_position_embeddings":0,"type_vocab_size":0}"#.to_vec()),
        ("vit", "patches of no pixels", br#"{"hidden_size":4,"num_hidden_layers":1,"num_attention_heads":2,"intermediate_size":8,"image_size":16,"patch_size":0,"num_channels":3,"layer_norm_eps":1e-12}"#.to_vec()),
        ("config", "deep arrays", [&b"epochs = "[..], &nested("[", 1 << 18)].concat()),
        ("config", "deep tables", format!("[{}a]\nb = 1\n", "a.".repeat(100_000)).into_bytes()),
        ("results", "deep JSON", nested("[", 1 << 20)),
        ("model", "deep JSON", nested("[", 1 << 20)),
        ("parquet", "a footer of 4 GiB", b"PAR1\xff\xff\xff\xffPAR1".to_vec()),
        ("parquet", "a footer of zeros", [&b"PAR1"[..], &[0; 4096], b"\0\x10\0\0PAR1"].concat()),
        ("lines", "deep JSON", nested("[", 1 << 20)),
        ("lines", "no line ends", vec![b' '; 30 << 20]),
        ("lines", "a text of 20 MB", format!("{{\"text\":\"{}\"}}\n", "a ".repeat(10 << 20)).into_bytes()),
    ]
}
