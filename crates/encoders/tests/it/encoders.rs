//! Laws of every encoder in the table.

use crate::support::{check_gradients, pattern, scalar};
use balgrad_encoders::{
    ENCODERS, Encoder, EncoderEntry, EncoderKind, Expects, Input, Parameters, ScratchShape, encoder,
};
use candle_core::{DType, Device, Result, Tensor};

const SHAPE: ScratchShape = ScratchShape { image_size: 16, vocabulary: 12 };

fn scratch() -> impl Iterator<Item = (&'static EncoderEntry, Box<dyn Encoder>, Parameters)> {
    ENCODERS.iter().filter_map(|entry| {
        let EncoderKind::Scratch(build) = entry.kind else { return None };
        let parameters = Parameters::new(3, &Device::Cpu).with_dtype(DType::F64);
        Some((entry, build(&SHAPE, &parameters).unwrap(), parameters))
    })
}

fn input(expects: &Expects) -> Input {
    match expects {
        Expects::Pixels { size, .. } => Input::Pixels(pattern((2, 3, *size, *size))),
        Expects::Tokens { .. } => expects.tokens(&[&[2, 5, 7, 11, 3], &[2, 6, 3]], &Device::Cpu).unwrap(),
        Expects::Features(dim) => Input::Features(pattern((2, *dim))),
    }
}

#[test]
fn every_parameter_learns() {
    for (entry, encoder, parameters) in scratch() {
        eprintln!("{}: {} parameters", entry.name, parameters.count());
        let input = input(encoder.expects());
        check_gradients(&parameters, &[], || scalar(&encoder.forward(&input)?));
    }
}

#[test]
fn a_sample_does_not_depend_on_its_batch() -> Result<()> {
    for (entry, encoder, _) in scratch() {
        let input = input(encoder.expects());
        let both = encoder.forward(&input)?;
        assert_eq!(both.dims(), [2, encoder.dim()], "{}", entry.name);
        let second = match &input {
            Input::Pixels(x) => Input::Pixels(x.narrow(0, 1, 1)?),
            Input::Tokens { .. } => encoder.expects().tokens(&[&[2, 6, 3]], &Device::Cpu)?,
            Input::Features(x) => Input::Features(x.narrow(0, 1, 1)?),
        };
        let alone = encoder.forward(&second)?;
        let distance = (alone - both.narrow(0, 1, 1)?)?.abs()?.max_all()?.to_scalar::<f64>()?;
        assert!(distance < 1e-9, "{}: {distance}", entry.name);
    }
    Ok(())
}

#[test]
fn a_missing_modality_is_one_fixed_embedding() -> Result<()> {
    for (entry, encoder, parameters) in scratch() {
        let missing = encoder.expects().missing(2, parameters.dtype(), &Device::Cpu)?;
        let y = encoder.forward(&missing)?;
        let rows = y.to_vec2::<f64>()?;
        assert_eq!(rows[0], rows[1], "{}", entry.name);
        assert!(rows[0].iter().all(|x| x.is_finite()), "{}", entry.name);
    }
    Ok(())
}

#[test]
fn the_wrong_kind_of_input_is_an_error() {
    for (entry, encoder, _) in scratch() {
        let error = encoder.forward(&Input::Features(pattern((1, 3)))).unwrap_err().to_string();
        assert!(error.contains("found features"), "{}: {error}", entry.name);
    }
}

#[test]
fn names_are_unique_and_found() {
    for entry in ENCODERS {
        assert!(std::ptr::eq(encoder(entry.name).unwrap(), entry), "{}", entry.name);
        assert!(["image", "text"].contains(&entry.modality), "{}", entry.name);
    }
    let error = encoder("huge-vit").err().unwrap().to_string();
    assert!(error.contains("huge-vit") && error.contains("small-cnn"), "{error}");
}

#[test]
fn featurizers_do_not_change_and_answer_for_their_modality() {
    for entry in ENCODERS {
        let make = || match entry.kind {
            EncoderKind::Featurizer(build) => Some(build()),
            EncoderKind::Fitted { fit, build } => Some(build(&fit(&["a boat", "a small house"]).unwrap()).unwrap()),
            EncoderKind::Scratch(_) | EncoderKind::Pretrained { .. } => None,
        };
        let (Some(one), Some(two)) = (make(), make()) else { continue };
        let image: Vec<u8> = (0..20 * 20 * 3).map(|i| (i * 7 % 251) as u8).collect();
        let features = |f: &dyn balgrad_encoders::Featurizer| (f.image(&image, 20, 20), f.text("a small boat"));
        let (image, text) = features(one.as_ref());
        assert_eq!((image.is_some(), text.is_some()), (entry.modality == "image", entry.modality == "text"));
        assert_eq!(image.as_ref().or(text.as_ref()).unwrap().len(), one.dim());
        assert_eq!((image, text), features(two.as_ref()));
        assert_eq!(one.key(), two.key());
    }
}

#[test]
fn packing_cuts_pads_and_normalises() -> Result<()> {
    let tokens = Expects::Tokens { limit: 4, empty: vec![2, 3] };
    let Input::Tokens { ids, mask } = tokens.tokens(&[&[2, 7, 8, 9, 3], &[]], &Device::Cpu)? else { panic!() };
    assert_eq!(ids.to_vec2::<u32>()?, [[2, 7, 8, 3], [2, 3, 0, 0]]);
    assert_eq!(mask.to_vec2::<f32>()?, [[1.0; 4], [1.0, 1.0, 0.0, 0.0]]);

    let framing = balgrad_encoders::Framing::default();
    let pixels = Expects::Pixels { size: 1, mean: [0.0, 0.5, 1.0], std: [1.0, 0.5, 2.0], framing };
    let Input::Pixels(x) = pixels.pixels(&[Some(&[255, 255, 255]), None], &Device::Cpu)? else { panic!() };
    assert_eq!(x.flatten_all()?.to_vec1::<f32>()?, [1.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
    assert!(pixels.pixels(&[Some(&[0; 4])], &Device::Cpu).unwrap_err().to_string().contains("4 bytes"));
    Ok(())
}

#[test]
fn construction_order_does_not_change_a_model() {
    let build = |names: [&str; 2]| {
        let p = Parameters::new(9, &Device::Cpu);
        for name in names {
            let EncoderKind::Scratch(build) = encoder(name).unwrap().kind else { panic!() };
            build(&SHAPE, &p.scope(name)).unwrap();
        }
        p.all()
    };
    let (one, two) = (build(["small-cnn", "small-bert"]), build(["small-bert", "small-cnn"]));
    assert_eq!(one.len(), two.len());
    for ((name, a), (other, b)) in one.iter().zip(&two) {
        assert_eq!(name, other);
        let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(values(a), values(b), "{name}");
    }
}
