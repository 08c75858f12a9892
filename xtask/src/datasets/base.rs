//! Which pictures are variants of one another. Variants share a base, and a base never leaves its split.

/// The base of an emoji, from its code points in hexadecimal joined by `-`, as `1F6A3-200D-2640-FE0F`.
///
/// A variant differs in skin tone, in gender (man, woman, person; boy, girl, child; Santa, Mrs., Mx Claus), in the
/// direction it faces, or, for families, couples and people who hold hands, in who takes part.
pub(crate) fn emoji(code: &str) -> String {
    let code = code.to_ascii_lowercase();
    // Variation selectors and skin tones never tell one emoji from another.
    let parts: Vec<&str> = code
        .split('-')
        .filter(|part| !matches!(*part, "fe0f" | "1f3fb" | "1f3fc" | "1f3fd" | "1f3fe" | "1f3ff"))
        .collect();
    let mut base = Vec::new();
    let mut at = 0;
    while at < parts.len() {
        match (parts[at], parts.get(at + 1)) {
            // Joined to something: "… woman", "… man", "… facing right".
            ("200d", Some(&("2640" | "2642" | "27a1"))) => at += 1,
            ("1f468" | "1f469", _) => base.push("1f9d1"),
            ("1f466" | "1f467", _) => base.push("1f9d2"),
            (part, _) => base.push(part),
        }
        at += 1;
    }
    let base = base.join("-");
    let is_family = base.starts_with("1f9d1-200d-1f9d1-200d-1f9d2") || base.starts_with("1f9d1-200d-1f9d2");
    match base.as_str() {
        _ if is_family => "1f46a".into(),
        "1f9d1-200d-2764-200d-1f9d1" => "1f491".into(), // couple with heart
        "1f9d1-200d-2764-200d-1f48b-200d-1f9d1" => "1f48f".into(), // kiss
        "1f46b" | "1f46c" | "1f46d" => "1f9d1-200d-1f91d-200d-1f9d1".into(), // holding hands
        "1f474" | "1f475" => "1f9d3".into(),            // old man, old woman: older person
        "1f934" | "1f478" => "1fac5".into(),            // prince, princess: person with crown
        "1f385" | "1f936" => "1f9d1-200d-1f384".into(), // Santa, Mrs. Claus: Mx Claus
        "1f930" | "1fac3" => "1fac4".into(),            // pregnant woman, man: person
        "1f57a" => "1f483".into(),                      // man dancing: woman dancing
        _ => base,
    }
}

/// Families of icons that are one picture with a changing sign in or on it: the first word is the base.
const FAMILIES: &str = "\
    battery calendar cell chat cloud device dice file folder gender hourglass letter list microphone mouse \
    number phone selection shield smiley speaker text user wifi";

/// Families that come in every direction and in several shapes: the directions fall away, the shape stays.
const TURNING: &[&str] = &["arrow", "caret"];

/// Words after the first that turn, move or mirror a picture.
const DIRECTIONS: &str = "\
    up down left right top bottom in out horizontal vertical north east west clockwise counter cardinal \
    ascending descending back forward tilt profile front";

/// Words after the first that count, decorate or simplify a picture without making another of it: degrees and numbers,
/// then styles, then signs and states.
const MODIFIERS: &str = "\
    high medium low none full empty half double zero one two three four five six seven eight nine ten all a aa \
    simple straight fat fine bold broad thin angular outline dashed inset offset circle square rectangle diamond \
    octagon centered teardrop line block curly angle round inverse split plus minus x check checkered slash dot \
    star heart warning question text open closed break broken key laminated lock pause play ringing z percent \
    fold area fix connected charging chart clipping proper equal or of once loop gap ball pencil magnifying \
    glass";

/// The base of an icon, from its name: `bell-simple-slash` belongs to `bell`, `arrow-circle-up-left` to `arrow-circle`.
pub(crate) fn icon(name: &str) -> String {
    let mut words = name.split('-').map(singular);
    let first = words.next().unwrap_or_default();
    if contains(FAMILIES, first) {
        return first.to_owned();
    }
    let falls_away =
        |word: &str| contains(DIRECTIONS, word) || (!TURNING.contains(&first) && contains(MODIFIERS, word));
    words.filter(|word| !falls_away(word)).fold(first.to_owned(), |base, word| base + "-" + word)
}

fn contains(list: &str, word: &str) -> bool {
    list.split(' ').any(|listed| listed == word)
}

/// Good enough for a key: "arrows" is "arrow", and it does no harm that "compass" stays and "stairs" is "stair".
pub(super) fn singular(word: &str) -> &str {
    match word.strip_suffix('s') {
        Some(stem) if stem.len() > 2 && !stem.ends_with(['s', 'u']) => stem,
        _ => word,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn share(base: fn(&str) -> String, variants: &[&str]) {
        for variant in variants {
            assert_eq!(base(variant), base(variants[0]), "{variant} and {}", variants[0]);
        }
    }

    #[track_caller]
    fn differ(base: fn(&str) -> String, names: &[&str]) {
        for (at, name) in names.iter().enumerate() {
            for other in &names[..at] {
                assert_ne!(base(name), base(other), "{name} and {other}");
            }
        }
    }

    #[test]
    fn man_woman_person_and_skin_tones_share_a_base() {
        share(
            emoji,
            &["1F6A3", "1F6A3-200D-2640-FE0F", "1F6A3-200D-2642-FE0F", "1F6A3-1F3FB", "1F6A3-1F3FF-200D-2642-FE0F"],
        );
        share(emoji, &["1F9D1-200D-1F33E", "1F468-200D-1F33E", "1F469-1F3FD-200D-1F33E"]);
        share(emoji, &["1F466", "1F467", "1F9D2"]);
        share(emoji, &["1F385", "1F936", "1F9D1-200D-1F384"]);
        share(emoji, &["26F9-FE0F", "26F9-FE0F-200D-2640-FE0F"]);
    }

    #[test]
    fn facing_right_shares_the_base() {
        share(emoji, &["1F3C3", "1F3C3-200D-27A1-FE0F", "1F3C3-200D-2640-FE0F-200D-27A1-FE0F"]);
        share(emoji, &["1F9D1-200D-1F9BC", "1F468-200D-1F9BC-200D-27A1-FE0F"]);
    }

    #[test]
    fn families_couples_kisses_and_held_hands_are_four_bases() {
        share(
            emoji,
            &["1F46A", "1F468-200D-1F469-200D-1F467-200D-1F466", "1F469-200D-1F466", "1F9D1-200D-1F9D2-200D-1F9D2"],
        );
        share(emoji, &["1F491", "1F469-200D-2764-FE0F-200D-1F468"]);
        share(emoji, &["1F48F", "1F468-200D-2764-FE0F-200D-1F48B-200D-1F468"]);
        share(emoji, &["1F46B", "1F46C", "1F9D1-200D-1F91D-200D-1F9D1"]);
        differ(emoji, &["1F46A", "1F491", "1F48F", "1F46B", "1F9D1"]);
    }

    #[test]
    fn different_emoji_keep_different_bases() {
        // An arrow and the gender signs are emoji of their own; so are trades, bears and flags.
        differ(
            emoji,
            &[
                "27A1-FE0F",
                "2640-FE0F",
                "2642-FE0F",
                "1F9D1-200D-1F33E",
                "1F9D1-200D-1F373",
                "1F43B",
                "1F43B-200D-2744-FE0F",
            ],
        );
        differ(emoji, &["1F3F3-FE0F", "1F3F3-FE0F-200D-1F308", "1F3F3-FE0F-200D-26A7-FE0F"]);
        assert_eq!(emoji("0023-FE0F-20E3"), "0023-20e3");
    }

    #[test]
    fn icons_that_turn_count_or_carry_a_sign_share_a_base() {
        share(icon, &["arrow-up", "arrow-down-left", "arrows-left-right"]);
        share(icon, &["camera", "camera-plus", "camera-slash"]);
        share(icon, &["number-one", "number-circle-eight", "number-square-two"]);
        share(icon, &["file", "file-pdf", "files", "file-magnifying-glass"]);
        share(icon, &["heart", "heart-half", "heart-straight-break"]);
        share(icon, &["lock", "lock-key-open", "lock-laminated"]);
        share(icon, &["airplane", "airplane-tilt"]);
    }

    #[test]
    fn icons_that_show_another_thing_keep_their_own_base() {
        differ(
            icon,
            &[
                "airplane-landing",
                "airplane",
                "fire",
                "fire-truck",
                "tree-palm",
                "tree-structure",
                "hand-soap",
                "hand-waving",
            ],
        );
        differ(icon, &["arrow-up", "arrow-circle-up", "arrow-bend-up-left", "arrow-elbow-left", "caret-up"]);
    }
}
