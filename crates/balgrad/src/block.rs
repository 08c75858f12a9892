//! Blocks: the groups of parameters that a method may treat differently.

use candle_core::Var;

/// What a block of parameters is to the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// `h_m`: everything between modality `m`'s input and its embedding, the encoder included where it learns.
    Tower(usize),
    /// `f_m`: modality `m`'s own head.
    Head(usize),
    /// `f_T`: the fused head, and whatever else all modalities share.
    Fused,
}

/// How finely towers are cut into blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Granularity {
    /// One block per role.
    #[default]
    Role,
    /// One block per layer: parameters whose names agree up to the last dot.
    Layer,
}

/// A named group of variables with one role.
#[derive(Debug, Clone)]
pub struct Block {
    /// Name for logs and errors, such as `tower.image`.
    pub name: String,
    /// What the block is to the model.
    pub role: Role,
    /// The block's variables, in a fixed order.
    pub vars: Vec<Var>,
}

impl Block {
    /// Groups named parameters into blocks by role (and by layer, if asked), in the order of first appearance.
    pub fn group(
        parameters: impl IntoIterator<Item = (String, Var)>,
        role: impl Fn(&str) -> Role,
        granularity: Granularity,
    ) -> Vec<Self> {
        let mut blocks: Vec<Self> = Vec::new();
        for (name, var) in parameters {
            let role = role(&name);
            let label = match (granularity, role) {
                (Granularity::Layer, Role::Tower(_)) => name.rsplit_once('.').map_or("", |(layer, _)| layer).to_owned(),
                (_, Role::Tower(m)) => format!("tower.{m}"),
                (_, Role::Head(m)) => format!("head.{m}"),
                (_, Role::Fused) => "fused".to_owned(),
            };
            match blocks.iter_mut().find(|b| b.role == role && b.name == label) {
                Some(block) => block.vars.push(var),
                None => blocks.push(Self { name: label, role, vars: vec![var] }),
            }
        }
        blocks
    }

    /// The block without its variables, as evidence shows it to a method.
    pub fn info(&self) -> BlockInfo {
        BlockInfo { name: self.name.clone(), role: self.role }
    }
}

/// A block as a method sees it: no tensors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockInfo {
    /// Name for logs and errors.
    pub name: String,
    /// What the block is to the model.
    pub role: Role,
}
