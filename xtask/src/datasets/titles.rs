//! What the title of a clip art says: about the picture, about the series it is from, or about nothing but a collection.

/// Words that do not tell one series from another: articles, colours, sizes, numbers, states, sides and directions.
const ASIDE: &str = "\
    the an il la le lo un una my of and or with black white bw red green blue yellow orange purple seagreen grey gray \
    brown pink gold silver small little large big tiny one two three four five simple basic stylized stylised cartoon \
    open closed left right up down upper lower top bottom in out horizontal vertical old new";

/// The title as a reader says it: no underscores, no doubled spaces, and not whose clip art it is.
pub(crate) fn clean(title: &str) -> String {
    let title = title.replace('_', " ");
    let words = title.split_whitespace().collect::<Vec<_>>().join(" ");
    match words.split_once(" - ") {
        Some((whose, rest)) if whose.starts_with("Clipart by ") => rest.to_owned(),
        _ => words,
    }
}

/// The author without remarks in brackets and without what follows the `@` of an address.
pub(crate) fn author(creator: &str) -> String {
    let name = creator.split(['(', '[', '<', '@']).next().unwrap_or_default();
    clean(name).to_lowercase()
}

/// Whether a file is named after its title: `crawfish1_ganson` after "Crawfish". The package cuts long names.
pub(crate) fn names_file(title: &str, file: &str) -> bool {
    let (title, file) = (letters(title), letters(file));
    !title.is_empty() && !file.is_empty() && (file.starts_with(&title) || title.starts_with(&file))
}

/// The first two words of the title that say what is shown, remarks in brackets aside: "LED Circle (Black)" and
/// "LED circle 2" are of the stem "led circle".
pub(crate) fn stem(title: &str) -> String {
    let title = title.to_lowercase();
    let plain = title.split(['(', '[']).next().unwrap_or_default();
    let words = |text| str::split(text, |c: char| !c.is_alphabetic()).filter(|word| word.chars().nth(1).is_some());
    let telling: Vec<&str> = words(plain).filter(|word| !ASIDE.split(' ').any(|aside| aside == *word)).collect();
    let chosen = if telling.is_empty() { words(&title).collect() } else { telling };
    chosen.into_iter().take(2).map(super::base::singular).collect::<Vec<_>>().join(" ")
}

fn letters(text: &str) -> String {
    text.chars().filter(char::is_ascii_alphabetic).map(|c| c.to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_is_cleaned_of_underscores_and_of_whose_clip_art_it_is() {
        assert_eq!(clean(" rss_button \n"), "rss button");
        assert_eq!(clean("Clipart by Chris Hilker - United States - Alaska"), "United States - Alaska");
        assert_eq!(clean("hat - clothing"), "hat - clothing");
    }

    #[test]
    fn an_author_has_no_address() {
        assert_eq!(author("Jean-Victor Balin (balin_j@epita.fr)"), author("Jean-Victor Balin"));
        assert_eq!(author("somebody@example.org"), "somebody");
    }

    #[test]
    fn a_file_is_named_after_its_title_also_where_the_name_is_cut() {
        assert!(names_file("Crawfish", "crawfish1_ganson"));
        assert!(names_file("mountain - RPG map elements", "mountain_-_rpg_map_elem_01"));
        assert!(!names_file("Various Cliparts", "sport_Harnsasana"));
        assert!(!names_file("pear", "apple"));
        assert!(!names_file("50", "apple"));
    }

    #[test]
    fn a_series_shares_a_stem() {
        for (title, expected) in [
            ("LED Circle (Black)", "led circle"),
            ("led circles 2", "led circle"),
            ("BlueMan#101", "blueman"),
            ("Blue Folder", "folder"),
            ("The Moon", "moon"),
            ("8 ball", "ball"),
            ("Stylized Teddy Bear with Hearts", "teddy bear"),
            ("arrow-down-blue", "arrow"),
            ("(Left)", "left"),
            ("été 2", "été"),
            ("50 %", ""),
        ] {
            assert_eq!(stem(title), expected);
        }
    }
}
