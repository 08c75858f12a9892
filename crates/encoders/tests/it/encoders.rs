//! Laws of every encoder in the table.

use crate::support::{check_gradients, scalar};
use balgrad_data::{Framing, Impairment, ImpairmentKind, MODALITIES, Source};
use balgrad_encoders::{
    ENCODERS, Encoder, EncoderEntry, EncoderKind, FitOptions, Input, Item, Parameters, Pixels, Reader, Tokens, View,
    encoder,
};
use candle_core::{DType, Device, Result, Tensor};

/// A part of each modality that the table knows: an image of 20 × 20, a text.
fn part(modality: &str) -> Source {
    let pixel = |x, y| image::Rgb([(x * 13 % 251) as u8, (y * 7 % 251) as u8, (x * y % 251) as u8]);
    let mut bytes = std::io::Cursor::new(Vec::new());
    image::RgbImage::from_fn(20, 20, pixel).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    match modality {
        "image" => Source::Bytes(bytes.into_inner().into()),
        "text" => Source::Text("a small boat".into()),
        other => panic!("no part for {other}"),
    }
}

/// What an encoder's form is fitted to: two samples, small images, few tokens.
fn fitted(entry: &EncoderEntry) -> String {
    let (EncoderKind::Handcrafted { fit, .. } | EncoderKind::Scratch { fit, .. }) = entry.kind else { panic!() };
    let mut options = FitOptions::default();
    (options.image_size, options.vocabulary) = (16, 60);
    let other = if entry.modality == "text" { Source::Text("a house".into()) } else { part(entry.modality) };
    fit(&[&part(entry.modality), &other], &options).unwrap()
}

fn scratch() -> impl Iterator<Item = (&'static EncoderEntry, Box<dyn Encoder>, Parameters)> {
    ENCODERS.iter().filter_map(|entry| {
        let EncoderKind::Scratch { build, .. } = entry.kind else { return None };
        let parameters = Parameters::new(3, &Device::Cpu).with_dtype(DType::F64);
        Some((entry, build(&fitted(entry), &parameters).unwrap(), parameters))
    })
}

/// Two samples that differ, in double precision.
fn items(entry: &EncoderEntry, encoder: &dyn Encoder) -> Vec<Item> {
    let one = |variant| encoder.reader().item(&part(entry.modality), "a", &View { variant, impairment: None }).unwrap();
    let mut both = vec![one(None), one(None)];
    match &mut both[1] {
        Item::Pixels(pixels) => pixels.reverse(),
        Item::Tokens(ids) => drop(ids.remove(1)),
        _ => panic!(),
    }
    both
}

fn collate(encoder: &dyn Encoder, items: &[Item]) -> Input {
    let double = |x: Tensor| x.to_dtype(DType::F64).unwrap();
    match encoder.reader().collate(items, &Device::Cpu).unwrap() {
        Input::Pixels(x) => Input::Pixels(double(x)),
        Input::Features(x) => Input::Features(double(x)),
        Input::Tokens { ids, mask } => Input::Tokens { ids, mask: double(mask) },
    }
}

#[test]
fn every_parameter_learns() {
    for (entry, encoder, parameters) in scratch() {
        eprintln!("{}: {} parameters", entry.name, parameters.count());
        let input = collate(encoder.as_ref(), &items(entry, encoder.as_ref()));
        check_gradients(&parameters, &[], || scalar(&encoder.forward(&input)?));
    }
}

#[test]
fn a_sample_does_not_depend_on_its_batch() -> Result<()> {
    for (entry, encoder, _) in scratch() {
        let items = items(entry, encoder.as_ref());
        let both = encoder.forward(&collate(encoder.as_ref(), &items))?;
        assert_eq!(both.dims(), [2, encoder.dim()], "{}", entry.name);
        let second = collate(encoder.as_ref(), &items[1..]);
        let alone = encoder.forward(&second)?;
        let distance = (alone - both.narrow(0, 1, 1)?)?.abs()?.max_all()?.to_scalar::<f64>()?;
        assert!(distance < 1e-9, "{}: {distance}", entry.name);
    }
    Ok(())
}

#[test]
fn a_missing_modality_is_one_fixed_embedding() -> Result<()> {
    for (entry, encoder, _) in scratch() {
        let missing = collate(encoder.as_ref(), &[Item::Missing, Item::Missing]);
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
        let error = encoder
            .forward(&Input::Features(Tensor::zeros((1, 3), DType::F64, &Device::Cpu).unwrap()))
            .unwrap_err()
            .to_string();
        assert!(error.contains("found features"), "{}: {error}", entry.name);
    }
}

#[test]
fn names_are_unique_and_found() {
    for entry in ENCODERS {
        assert!(std::ptr::eq(encoder(entry.name).unwrap(), entry), "{}", entry.name);
        assert!(MODALITIES.iter().any(|m| m.name == entry.modality), "{}", entry.name);
    }
    let error = encoder("huge-vit").err().unwrap().to_string();
    assert!(error.contains("huge-vit") && error.contains("small-cnn"), "{error}");
}

#[test]
fn handcrafted_features_follow_from_the_part_and_the_view() {
    for entry in ENCODERS {
        let EncoderKind::Handcrafted { build, .. } = entry.kind else { continue };
        let fitted = fitted(entry);
        let (one, two) = (build(&fitted).unwrap(), build(&fitted).unwrap());
        assert_eq!(one.reader().key().unwrap(), two.reader().key().unwrap());
        let read = |encoder: &dyn Encoder, id: &str, view: &View| {
            let Item::Features(row) = encoder.reader().item(&part(entry.modality), id, view).unwrap() else { panic!() };
            assert_eq!(row.len(), encoder.dim(), "{}", entry.name);
            row
        };
        let modality = *MODALITIES.iter().find(|m| m.name == entry.modality).unwrap();
        let plain = read(one.as_ref(), "a", &View::default());
        assert_eq!(plain, read(two.as_ref(), "b", &View::default()), "{}", entry.name);
        let mut changed = false;
        for kind in modality.noises {
            let kind = ImpairmentKind::Noise { kind, severity: 5 };
            let view = View { impairment: Some((Impairment { modality, kind }, 7)), variant: None };
            let noisy = read(one.as_ref(), "a", &view);
            assert_eq!(noisy, read(two.as_ref(), "a", &view), "{}", entry.name);
            changed |= noisy != plain;
        }
        // Not by every kind: the order of words is nothing to n-grams.
        assert!(changed, "{}", entry.name);
        let variant = View { variant: Some(1), impairment: None };
        assert_eq!(read(one.as_ref(), "a", &variant), read(two.as_ref(), "a", &variant), "{}", entry.name);
    }
}

#[test]
fn collating_cuts_pads_and_normalises() -> balgrad_encoders::Result<()> {
    let tokens = Tokens { place: String::new(), tokenizer: None, limit: 4, empty: vec![2, 3], learnt: false };
    let batch = tokens.collate(&[Item::Tokens(vec![2, 7, 8, 9, 3]), Item::Missing], &Device::Cpu)?;
    let Input::Tokens { ids, mask } = batch else { panic!() };
    assert_eq!(ids.to_vec2::<u32>()?, [[2, 7, 8, 3], [2, 3, 0, 0]]);
    assert_eq!(mask.to_vec2::<f32>()?, [[1.0; 4], [1.0, 1.0, 0.0, 0.0]]);

    let pixels = Pixels { framing: Framing::whole(1), mean: [0.0, 0.5, 1.0], std: [1.0, 0.5, 2.0] };
    let batch = pixels.collate(&[Item::Pixels(vec![255, 255, 255].into()), Item::Missing], &Device::Cpu)?;
    let Input::Pixels(x) = batch else { panic!() };
    assert_eq!(x.flatten_all()?.to_vec1::<f32>()?, [1.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
    let refused = |items: &[Item]| pixels.collate(items, &Device::Cpu).unwrap_err().to_string();
    assert!(refused(&[Item::Pixels(vec![0; 4].into())]).contains("4 bytes"));
    assert!(refused(&[Item::Tokens(vec![1])]).contains("reads pixels, found tokens"));
    Ok(())
}

#[test]
fn construction_order_does_not_change_a_model() {
    let build = |names: [&str; 2]| {
        let p = Parameters::new(9, &Device::Cpu);
        for name in names {
            let entry = encoder(name).unwrap();
            let EncoderKind::Scratch { build, .. } = entry.kind else { panic!() };
            build(&fitted(entry), &p.scope(name)).unwrap();
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
