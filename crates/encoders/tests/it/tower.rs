//! Laws of the two-tower model, under every fusion and for two and three modalities.

use crate::support::{check_gradients, pattern, scalar};
use balgrad_encoders::{
    BlockRole, Encoder, FUSIONS, HeadForm, Input, ModelConfig, Parameters, Precomputed, TowerConfig, TwoTower,
};
use candle_core::{DType, Device, Result, Tensor};

const NAMES: [&str; 3] = ["image", "text", "sound"];

fn config(fusion: &str, modalities: usize) -> ModelConfig {
    let tower = |m: usize| TowerConfig {
        name: NAMES[m].into(),
        head: if m == 2 { HeadForm::Linear } else { HeadForm::Mlp },
        norm: m == 0,
    };
    ModelConfig { fusion: fusion.into(), width: 4, classes: 3, towers: (0..modalities).map(tower).collect() }
}

fn model(fusion: &str, modalities: usize) -> (TwoTower, Parameters, Vec<Input>) {
    let parameters = Parameters::new(5, &Device::Cpu).with_dtype(DType::F64);
    let encoders = (0..modalities).map(|m| Box::new(Precomputed::new(5 + m)) as Box<dyn Encoder>).collect();
    let tower = TwoTower::new(&config(fusion, modalities), encoders, &parameters).unwrap();
    let inputs = (0..modalities).map(|m| Input::Features(pattern((2, 5 + m)))).collect();
    (tower, parameters, inputs)
}

fn distance(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f64>().unwrap()
}

#[test]
fn every_parameter_learns_under_every_fusion() {
    for entry in FUSIONS {
        for modalities in [2, 3] {
            let (tower, parameters, inputs) = model(entry.name, modalities);
            check_gradients(&parameters, &[], || {
                let views = tower.forward(&inputs)?;
                views.own.iter().try_fold(scalar(&views.fused)?, |sum, own| sum + scalar(own)?)
            });
        }
    }
}

#[test]
fn own_heads_touch_their_own_tower_alone() -> Result<()> {
    for entry in FUSIONS {
        let (tower, parameters, inputs) = model(entry.name, 3);
        let views = tower.forward(&inputs)?;
        for m in 0..3 {
            let gradients = scalar(&views.own[m])?.backward()?;
            for (name, variable) in parameters.all() {
                let mine = matches!(tower.block_of(&name), BlockRole::Tower(n) | BlockRole::Head(n) if n == m);
                assert_eq!(gradients.get(&variable).is_some(), mine, "{}: own head {m}, {name}", entry.name);
            }
        }
    }
    Ok(())
}

#[test]
fn layers_that_are_cut_out_leave_factors_of_their_gradients() -> Result<()> {
    let (tower, parameters, inputs) = model("concat", 3);
    let whole = scalar(&Tensor::cat(&tower.embed(&inputs)?, 1)?)?;
    let (embeddings, cut): (Vec<_>, Vec<_>) = tower.embed_cut(&inputs)?.into_iter().unzip();
    let parts = scalar(&Tensor::cat(&embeddings, 1)?)?;
    assert!(distance(&whole, &parts) < 1e-15);
    let (whole, parts) = (whole.backward()?, parts.backward()?);
    // Two layers of each MLP, and the linear one.
    let cut: Vec<_> = cut.into_iter().flatten().collect();
    assert_eq!(cut.len(), 5);
    for layer in &cut {
        let factor = parts.get(&layer.leaf).unwrap();
        assert!(parts.get(&layer.weight).is_none());
        let weight = factor.t()?.matmul(&layer.input)?;
        assert!(distance(&weight, whole.get(&layer.weight).unwrap()) < 1e-12);
        let bias = factor.sum(0)?;
        assert!(distance(&bias, whole.get(layer.bias.as_ref().unwrap()).unwrap()) < 1e-12);
    }
    // What stays in the graph has the gradient that it had.
    for (_, var) in parameters.all().iter().filter(|(name, _)| name.contains(".norm.")) {
        assert!(distance(parts.get(var).unwrap(), whole.get(var).unwrap()) < 1e-12);
    }
    // In a large batch, factors are longer than what they stand for.
    let many: Vec<Input> = (0..3).map(|m| Input::Features(pattern((40, 5 + m)))).collect();
    assert!(tower.embed_cut(&many)?.iter().all(|(_, cut)| cut.is_empty()));
    Ok(())
}

#[test]
fn slices_sum_to_the_fused_logits() -> Result<()> {
    for fusion in ["concat", "add", "cosine"] {
        let (tower, _, inputs) = model(fusion, 3);
        let views = tower.forward(&inputs)?;
        let slices = tower.slices(&views.embeddings)?.expect("additive");
        let sum = ((&slices[0] + &slices[1])? + &slices[2])?;
        assert!(distance(&sum, &views.fused) < 1e-12, "{fusion}");

        // With the other embeddings at zero, the others' slices are their share of the bias.
        for (m, slice) in slices.iter().enumerate() {
            let zeros: Vec<_> = views.embeddings.iter().map(|z| z.zeros_like().unwrap()).collect();
            let silence = tower.slices(&zeros)?.expect("additive");
            let rest = (0..3).filter(|n| *n != m).try_fold(slice.clone(), |sum, n| sum + &silence[n])?;
            assert!(distance(&rest, &tower.alone(&views.embeddings, m)?) < 1e-12, "{fusion}, {m}");
        }
    }
    let (tower, _, inputs) = model("attention", 2);
    assert!(tower.slices(&tower.embed(&inputs)?)?.is_none());
    Ok(())
}

#[test]
fn alone_ignores_the_others() -> Result<()> {
    for entry in FUSIONS {
        let (tower, _, mut inputs) = model(entry.name, 2);
        let before = tower.alone(&tower.embed(&inputs)?, 0)?;
        let fused = tower.forward(&inputs)?.fused;
        inputs[1] = Input::Features((pattern((2, 6)) * 3.0)?);
        assert_eq!(distance(&before, &tower.alone(&tower.embed(&inputs)?, 0)?), 0.0, "{}", entry.name);
        assert!(distance(&fused, &tower.forward(&inputs)?.fused) > 1e-3, "{}", entry.name);
        assert!(tower.alone(&tower.embed(&inputs)?, 2).is_err());
    }
    Ok(())
}

#[test]
fn every_parameter_has_its_block() {
    let (tower, parameters, _) = model("concat", 3);
    for (name, _) in parameters.all() {
        let expected = match name.split('.').collect::<Vec<_>>()[..] {
            [modality, "own", ..] => BlockRole::Head(NAMES.iter().position(|n| *n == modality).unwrap()),
            ["fused", ..] => BlockRole::Fused,
            [modality, "embed", ..] => BlockRole::Tower(NAMES.iter().position(|n| *n == modality).unwrap()),
            _ => panic!("{name}"),
        };
        assert_eq!(tower.block_of(&name), expected, "{name}");
    }
    assert_eq!(tower.block_of("text.encoder.layer.0.weight"), BlockRole::Tower(1));
}

#[test]
fn a_wrong_configuration_is_refused_with_the_reason() {
    let refuse = |change: &dyn Fn(&mut ModelConfig), reason: &str| {
        let mut config = config("concat", 2);
        change(&mut config);
        let encoders: Vec<Box<dyn Encoder>> = vec![Box::new(Precomputed::new(2)), Box::new(Precomputed::new(2))];
        let error = TwoTower::new(&config, encoders, &Parameters::new(0, &Device::Cpu)).err().unwrap().to_string();
        assert!(error.contains(reason), "{error}");
    };
    refuse(&|c| c.fusion = "mix".into(), "unknown fusion `mix`; known: concat, add, attention, cosine");
    refuse(&|c| c.towers[1].name = "image".into(), "two towers are called `image`");
    refuse(&|c| c.towers[0].name = "fused".into(), "`fused` cannot name a tower");
    refuse(&|c| c.towers.truncate(1), "at least two towers");
    refuse(&|c| c.classes = 0, "positive");
}

#[test]
fn wrong_inputs_are_errors() {
    let (tower, _, inputs) = model("concat", 2);
    assert!(tower.forward(&inputs[..1]).unwrap_err().to_string().contains("2 modalities, found 1"));
    let pixels = Input::Pixels(Tensor::zeros((2, 3, 4, 4), DType::F64, &Device::Cpu).unwrap());
    let error = tower.forward(&[pixels, inputs[1].clone()]).unwrap_err().to_string();
    assert!(error.contains("reads features, found pixels"), "{error}");
}
