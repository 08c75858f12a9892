//! What is measured against what, and the goals.

/// The argument that `--device` fills in.
pub(super) const DEVICE: &str = "DEVICE";

/// Which worker, and its arguments; one under `MODELS/` is a folder that the peer has written, and [`DEVICE`] a GPU's kind.
pub(super) enum Side {
    /// A case of `crates/trainer/examples/bench`.
    Ours(&'static [&'static str]),
    /// A case of `xtask/peers/bench.py`.
    Peer(&'static [&'static str]),
}

/// How two readings become a number.
pub(super) enum Measure {
    /// Our time over the other's: less is better.
    Time,
    /// The other's time over ours, times how much more work ours is: more is better.
    Faster(f64),
    /// Our peak memory over the other's.
    Memory,
    /// Our pixels' mean absolute difference from the peer's.
    Difference,
}

/// One figure of a pair.
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) measure: Measure,
    pub(super) goal: Option<f64>,
    /// What counting operations, or bytes, would make it.
    pub(super) count: &'static str,
}

impl Row {
    /// Whether more is better.
    pub(super) fn more(&self) -> bool {
        matches!(self.measure, Measure::Faster(_))
    }
}

/// Two workers that take turns.
pub(super) struct Pair {
    pub(super) ours: &'static [&'static str],
    pub(super) other: Side,
    pub(super) rows: &'static [Row],
}

/// Pairs under one heading.
pub(super) struct Group {
    pub(super) name: &'static str,
    pub(super) pairs: &'static [Pair],
}

const fn row(name: &'static str, measure: Measure, goal: f64) -> Row {
    Row { name, measure, goal: Some(goal), count: "" }
}

/// A method's step over `joint`'s, with its count: a forward counts 1, a backward pass 2, half of it for the weights.
const fn over_joint(name: &'static str, count: &'static str, goal: Option<f64>) -> [Row; 1] {
    [Row { name, measure: Measure::Time, goal, count }]
}

/// A time without goal or count.
const PLAIN: Row = Row { name: "", measure: Measure::Time, goal: None, count: "" };

const COPY: Side = Side::Ours(&["copy"]);
const FROZEN: Side = Side::Ours(&["step", "frozen", "joint"]);
const SMALL: Side = Side::Ours(&["step", "small", "joint"]);

pub(super) const GROUPS: &[Group] = &[
    Group {
        name: "Kernels: 25 M parameters, k = 3",
        pairs: &[
            Pair {
                ours: &["gram"],
                other: COPY,
                // Three reads beside a read and a write.
                rows: &[row("gram: bandwidth ÷ a copy's", Measure::Faster(1.5), 0.8)],
            },
            Pair {
                ours: &["blend"],
                other: COPY,
                rows: &[row("blend: bandwidth ÷ a copy's", Measure::Faster(2.0), 0.8)],
            },
            Pair {
                ours: &["gram"],
                other: Side::Ours(&["plain-gram"]),
                rows: &[row("plain candle ÷ gram", Measure::Faster(1.0), 4.0)],
            },
            Pair {
                ours: &["blend"],
                other: Side::Ours(&["plain-blend"]),
                rows: &[row("plain candle ÷ blend", Measure::Faster(1.0), 4.0)],
            },
        ],
    },
    Group {
        name: "Kernels on the GPU: 25 M parameters, k = 3",
        pairs: &[
            Pair {
                ours: &["gram", DEVICE],
                other: Side::Ours(&["copy", DEVICE]),
                rows: &[row("GPU, gram: bandwidth ÷ a copy's", Measure::Faster(1.5), 0.85)],
            },
            Pair {
                ours: &["blend", DEVICE],
                other: Side::Ours(&["copy", DEVICE]),
                rows: &[row("GPU, blend: bandwidth ÷ a copy's", Measure::Faster(2.0), 0.85)],
            },
            Pair {
                ours: &["gram", DEVICE],
                other: Side::Ours(&["plain-gram", DEVICE]),
                rows: &[Row { name: "GPU, plain candle ÷ gram", measure: Measure::Faster(1.0), ..PLAIN }],
            },
            Pair {
                ours: &["blend", DEVICE],
                other: Side::Ours(&["plain-blend", DEVICE]),
                rows: &[Row { name: "GPU, plain candle ÷ blend", measure: Measure::Faster(1.0), ..PLAIN }],
            },
        ],
    },
    Group {
        name: "Aggregation: 25 M parameters, k = 3",
        pairs: &[
            Pair {
                ours: &["aggregate", "upgrad"],
                other: Side::Peer(&["aggregate", "upgrad"]),
                rows: &[
                    row("TorchJD ÷ ours, UPGrad", Measure::Faster(1.0), 5.0),
                    row("memory ÷ TorchJD's, UPGrad", Measure::Memory, 0.5),
                ],
            },
            Pair {
                ours: &["aggregate", "pcgrad"],
                other: Side::Peer(&["aggregate", "pcgrad"]),
                rows: &[
                    row("TorchJD ÷ ours, PCGrad", Measure::Faster(1.0), 5.0),
                    row("memory ÷ TorchJD's, PCGrad", Measure::Memory, 0.5),
                ],
            },
        ],
    },
    Group {
        name: "A balanced step ÷ a plain one",
        pairs: &[
            Pair {
                ours: &["step", "frozen", "balgrad"],
                other: FROZEN,
                rows: &over_joint("BalGrad, frozen encoders, exact", "1.43", Some(1.4)),
            },
            Pair {
                ours: &["step", "small", "balgrad", "scope=representation"],
                other: SMALL,
                rows: &over_joint("BalGrad, end to end, scope = representation", "1.0", Some(1.25)),
            },
            Pair {
                ours: &["step", "small", "balgrad"],
                other: SMALL,
                rows: &over_joint("BalGrad, end to end, exact per block", "(1 + 3·2)/3 = 2.33", Some(2.5)),
            },
            Pair {
                ours: &["step", "small", "balgrad", "refresh=4"],
                other: SMALL,
                rows: &over_joint("BalGrad, end to end, refresh = 4", "(2.33 + 3)/4 = 1.33", Some(1.4)),
            },
            Pair {
                ours: &["step", "frozen", "multi-loss"],
                other: FROZEN,
                rows: &over_joint("multi-loss, frozen encoders", "1.0", None),
            },
            Pair {
                ours: &["step", "frozen", "agm"],
                other: FROZEN,
                rows: &over_joint("AGM, frozen encoders", "1.0", None),
            },
            Pair {
                ours: &["step", "frozen", "ogm-ge"],
                other: FROZEN,
                rows: &over_joint("OGM-GE, frozen encoders", "1.0 and noise for every weight", None),
            },
            Pair {
                ours: &["step", "frozen", "mmpareto"],
                other: FROZEN,
                rows: &over_joint("MMPareto, frozen encoders", "1.3", None),
            },
            Pair {
                ours: &["step", "frozen", "pcgrad"],
                other: FROZEN,
                rows: &over_joint("PCGrad, frozen encoders", "1.43", None),
            },
            Pair {
                ours: &["step", "frozen", "upgrad"],
                other: FROZEN,
                rows: &over_joint("UPGrad, frozen encoders", "1.43", None),
            },
        ],
    },
    Group {
        name: "A plain training step ÷ PyTorch's",
        pairs: &[
            Pair {
                ours: &["step", "frozen", "joint"],
                other: Side::Peer(&["step", "frozen"]),
                rows: &[
                    row("frozen towers (MLP), batch 64", Measure::Time, 0.8),
                    row("memory, frozen towers", Measure::Memory, 1.0),
                ],
            },
            Pair {
                ours: &["step", "small", "joint"],
                other: Side::Peer(&["step", "small"]),
                rows: &[
                    row("small ViT + BERT, batch 64", Measure::Time, 1.0),
                    row("memory, small ViT + BERT", Measure::Memory, 1.0),
                ],
            },
            Pair {
                ours: &["step", "resnet", "joint", "MODELS/resnet"],
                other: Side::Peer(&["step", "resnet", "MODELS/resnet"]),
                rows: &[
                    row("ResNet-18 at 64 px, batch 32", Measure::Time, 1.3),
                    row("memory, ResNet-18", Measure::Memory, 1.0),
                ],
            },
        ],
    },
    Group {
        name: "Frozen feature extraction ÷ PyTorch's",
        pairs: &[
            Pair {
                ours: &["features", "vit", "MODELS/vit"],
                other: Side::Peer(&["features", "vit", "MODELS/vit"]),
                rows: &[row("ViT-B/16, batch 8", Measure::Time, 1.2)],
            },
            Pair {
                ours: &["features", "bert", "MODELS/bert"],
                other: Side::Peer(&["features", "bert", "MODELS/bert"]),
                rows: &[row("BERT-base, batch 8 of 24 tokens", Measure::Time, 1.2)],
            },
        ],
    },
    Group {
        name: "Images: 500 px JPEGs to 224 px",
        pairs: &[Pair {
            ours: &["images", "MODELS/jpegs"],
            other: Side::Peer(&["images", "MODELS/jpegs"]),
            rows: &[
                row("torchvision + PIL ÷ ours, 2 workers", Measure::Faster(1.0), 2.0),
                row("mean difference of pixels from PIL's", Measure::Difference, 0.0078),
            ],
        }],
    },
];
