//! What an SVG says about itself, in the RDF that Open Clip Art asked of its authors.

use resvg::usvg::roxmltree::{Document, Node};

const DC: &str = "http://purl.org/dc/elements/1.1/";
/// Creative Commons' namespace has changed its address; both are in use.
const CC: [&str; 2] = ["http://web.resource.org/cc/", "http://creativecommons.org/ns#"];
const RDF: &str = "http://www.w3.org/1999/02/22-rdf-syntax-ns#";
/// How the files call the public domain.
const PUBLIC_DOMAIN: [&str; 2] =
    ["http://web.resource.org/cc/PublicDomain", "http://creativecommons.org/licenses/publicdomain/"];

/// A work by its own words.
pub(super) struct Work {
    pub(super) title: String,
    pub(super) creator: String,
    pub(super) public_domain: bool,
}

impl Work {
    /// What the first description in a document says; what is not said is empty.
    pub(super) fn of(document: &Document<'_>) -> Self {
        let work = document.descendants().find(|node| CC.iter().any(|cc| node.has_tag_name((*cc, "Work"))));
        let said = |name| work.and_then(|work| child(work, name));
        let licence = work.into_iter().flat_map(|work| work.descendants()).find_map(|node| {
            let is_licence = CC.iter().any(|cc| node.has_tag_name((*cc, "license")));
            if is_licence { node.attribute((RDF, "resource")) } else { None }
        });
        Self {
            title: said("title").and_then(|node| node.text()).unwrap_or_default().to_owned(),
            creator: said("creator").map(text).unwrap_or_default(),
            public_domain: licence.is_some_and(|licence| PUBLIC_DOMAIN.contains(&licence)),
        }
    }
}

fn child<'a, 'i>(work: Node<'a, 'i>, name: &str) -> Option<Node<'a, 'i>> {
    work.children().find(|node| node.has_tag_name((DC, name)))
}

/// All text below a node: the name stands in an agent's title.
fn text(node: Node<'_, '_>) -> String {
    node.descendants().filter(Node::is_text).filter_map(|node| node.text()).collect::<String>().trim().to_owned()
}
