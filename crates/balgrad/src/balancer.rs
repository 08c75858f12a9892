//! One balanced backward: a backward pass per objective, a Gram matrix per block, the method's mix, one gradient.

use std::borrow::Cow;
use std::sync::Arc;

use balgrad_kernels::{add_noise, blend, gram, map_on};
use candle_core::backprop::GradStore;
use candle_core::{Error, Result, Tensor, Var};

use crate::{
    Alone, Block, BlockInfo, Clock, Communicator, EpochSummary, Evidence, GramScope, Method, Mix, Needs, Objective,
    Objectives, Outputs, Request, Role, Signals, State, Tap, Target,
};

/// What happened in the last step, for the log.
#[derive(Debug, Clone, Default)]
pub struct StepReport {
    /// Name and value of each objective.
    pub losses: Vec<(Cow<'static, str>, f64)>,
    /// The mix that was used.
    pub mix: Option<Mix>,
    /// Backward passes that the step took.
    pub passes: usize,
}

/// Puts a [`Method`] to work on a model's blocks: drop-in for `loss.backward()`.
pub struct Balancer {
    method: Box<dyn Method>,
    needs: Needs,
    blocks: Vec<Block>,
    infos: Vec<BlockInfo>,
    seed: u64,
    step: usize,
    epoch: usize,
    /// The step with which the epoch began.
    epoch_start: usize,
    /// Steps an epoch, and epochs, where known.
    length: Option<(usize, usize)>,
    kept: Option<Mix>,
    report: StepReport,
    communicator: Arc<dyn Communicator>,
    /// Sums of this epoch's own losses, one for each modality, and the steps that were summed.
    own: (Vec<f64>, f64),
}

impl Balancer {
    /// A balancer of `blocks` by `method`; `seed` decides whatever the method leaves to chance.
    pub fn new(method: Box<dyn Method>, blocks: Vec<Block>, seed: u64) -> Self {
        let needs = method.needs();
        let infos = blocks.iter().map(Block::info).collect();
        Self {
            method,
            needs,
            blocks,
            infos,
            seed,
            step: 0,
            epoch: 0,
            epoch_start: 0,
            length: None,
            kept: None,
            report: StepReport::default(),
            communicator: Arc::new(Alone),
            own: (Vec::new(), 0.0),
        }
    }

    /// One of several ranks that train as one: its [`Outputs`] must be those of the whole batch
    /// ([`Outputs::gathered`]), in which its own rows alone carry a gradient.
    #[must_use]
    pub fn among(mut self, communicator: Arc<dyn Communicator>) -> Self {
        self.communicator = communicator;
        self
    }

    /// Tells how long the run will be, for methods that change with its progress.
    #[must_use]
    pub fn lasting(mut self, steps_per_epoch: usize, epochs: usize) -> Self {
        self.length = Some((steps_per_epoch, epochs));
        self
    }

    /// Where in the run the next step stands.
    fn clock(&self) -> Clock {
        let Self { step, epoch, seed, .. } = *self;
        let fraction = |done: usize, all: usize| (done as f64 / all.max(1) as f64).min(1.0);
        let fractions =
            self.length.map(|(n, epochs)| (fraction(step, n * epochs), fraction(step - self.epoch_start, n)));
        let (progress, within_epoch) = fractions.unwrap_or_default();
        Clock { step, epoch, seed, progress, within_epoch }
    }

    /// What the method wants to see in [`Outputs`].
    pub fn needs(&self) -> Needs {
        self.needs
    }

    /// What happened in the last step.
    pub fn report(&self) -> &StepReport {
        &self.report
    }

    /// The factor on the learning rate of a role's parameters that the last step asked for.
    pub fn step_scale(&self, role: Role) -> f64 {
        let block = self.infos.iter().position(|b| b.role == role);
        block.zip(self.report.mix.as_ref()).map_or(1.0, |(b, mix)| mix.step_scale[b])
    }

    /// The balanced gradient of one step, ready for any candle optimiser. A variable that no objective reaches has
    /// no entry, so that no optimiser moves it.
    ///
    /// # Errors
    /// When the outputs lack what the method needs, shapes disagree, or the method's mix does not fit.
    pub fn backward(&mut self, outputs: &Outputs, target: &Target) -> Result<GradStore> {
        let modality = |b: &BlockInfo| match b.role {
            Role::Tower(m) | Role::Head(m) => m,
            Role::Fused => 0,
        };
        if let Some(block) = self.infos.iter().find(|b| modality(b) >= outputs.modalities().max(1)) {
            let (name, m, n) = (&block.name, modality(block), outputs.modalities());
            return Err(Error::Msg(format!("block `{name}` belongs to modality {m}, but the outputs show {n}")));
        }
        if let Some(leaves) = outputs.leaves.as_ref().map(Vec::len) {
            let (m, embeddings) = (outputs.modalities(), outputs.embeddings.len());
            if leaves < m || embeddings < m {
                let found = format!("{leaves} leaves and {embeddings} embeddings");
                return Err(Error::Msg(format!(
                    "outputs cut at the embeddings have {found}, for {m} modalities: give one each"
                )));
            }
        }
        let objectives = self.method.objectives(outputs, target, &self.clock())?;
        let values = objectives.losses.iter().map(Objective::value).collect::<Result<Vec<f64>>>()?;
        self.count_own(&objectives, outputs.modalities())?;
        let Objectives { losses, signals } = objectives;
        let kept = self.kept.take().filter(|_| !self.step.is_multiple_of(self.needs.refresh.max(1)));
        if let Some(mix) = &kept {
            self.fits(mix, values.len())?;
        }
        // Coefficients that do not depend on gradients are known before any backward pass; where all blocks share
        // them, the mix is the gradient of one scalar.
        let early = match self.needs.gram {
            GramScope::None => Some(self.mix(&values, &signals, &[], outputs.modalities())?),
            GramScope::Towers | GramScope::All => None,
        };
        let (grads, mix, passes) = match (kept, early) {
            (Some(mix), _) => (self.one_scalar(&losses, &mix, outputs)?, mix, 1),
            (None, Some(mix)) if losses.len() > 1 && mix.noise == 0.0 && all_equal(&mix.coefficients) => {
                (self.weighted(&losses, &mix, outputs)?, mix, 1)
            }
            (None, early) => {
                let (grads, mix) = self.exact(&losses, &values, &signals, early, outputs)?;
                (grads, mix, losses.len())
            }
        };
        self.report = StepReport {
            losses: losses.into_iter().map(|o| o.name).zip(values).collect(),
            mix: Some(mix.clone()),
            passes,
        };
        if self.needs.refresh > 1 {
            self.kept = Some(mix);
        }
        self.step += 1;
        Ok(grads)
    }

    /// Adds up own losses, where the objectives name them and all are finite.
    fn count_own(&mut self, objectives: &Objectives, modalities: usize) -> Result<()> {
        let Some(own) = objectives.own(modalities)? else { return Ok(()) };
        if own.iter().all(|loss| loss.is_finite()) {
            let (sums, steps) = &mut self.own;
            sums.resize(modalities, 0.0);
            sums.iter_mut().zip(own).for_each(|(sum, loss)| *sum += loss);
            *steps += 1.0;
        }
        Ok(())
    }

    /// Whether the method wants a [`Probe`](crate::Probe) in the summary of this epoch (from 1).
    pub fn probes(&self, epoch: usize) -> bool {
        self.method.probes(epoch)
    }

    /// Tells the method that an epoch has ended; what it asks for is the training loop's to do. Methods that only pick
    /// coefficients ask for nothing. Training losses of the modalities that the summary leaves open are filled in where the
    /// method's objectives name them.
    ///
    /// # Errors
    /// What the method reports.
    pub fn epoch_ended(&mut self, mut summary: EpochSummary) -> Result<Vec<Request>> {
        (self.epoch, self.epoch_start) = (summary.epoch, self.step);
        let (sums, steps) = std::mem::take(&mut self.own);
        if steps > 0.0 {
            summary.train_loss.resize(sums.len(), None);
            for (loss, sum) in summary.train_loss.iter_mut().zip(sums) {
                *loss = loss.or(Some(sum / steps));
            }
        }
        self.method.epoch_ended(&summary)
    }

    /// Everything that the next step depends on beside the model.
    pub fn state(&self) -> State {
        let mut state = self.method.state();
        state.insert("balancer.step".into(), vec![self.step as f64, self.epoch as f64, self.epoch_start as f64]);
        if self.own.1 > 0.0 {
            state.insert("balancer.own".into(), self.own.0.clone());
            state.insert("balancer.own_steps".into(), vec![self.own.1]);
        }
        if let Some(mix) = &self.kept {
            state.insert("balancer.kept".into(), mix.coefficients.concat());
            state.insert("balancer.kept_scale".into(), mix.step_scale.clone());
            state.extend(mix.shares.clone().map(|shares| ("balancer.kept_shares".into(), shares)));
        }
        state
    }

    /// Continues from [`state`](Self::state).
    ///
    /// # Errors
    /// When the state is not one of this method's.
    pub fn restore(&mut self, state: &State) -> Result<()> {
        let Some([step, epoch, epoch_start]) = state.get("balancer.step").map(Vec::as_slice) else {
            return Err(Error::Msg("the state holds no `balancer.step`".into()));
        };
        let kept = match (state.get("balancer.kept"), state.get("balancer.kept_scale")) {
            (Some(flat), Some(scale)) => {
                let blocks = self.blocks.len();
                if scale.len() != blocks || blocks == 0 || flat.len() % blocks != 0 {
                    return Err(Error::Msg(format!(
                        "the state holds coefficients for other blocks than these {blocks}"
                    )));
                }
                let mut mix = Mix::uniform(&self.infos, &[]);
                mix.coefficients = flat.chunks((flat.len() / blocks).max(1)).map(<[f64]>::to_vec).collect();
                mix.step_scale.clone_from(scale);
                mix.shares = state.get("balancer.kept_shares").cloned();
                Some(mix)
            }
            _ => None,
        };
        let own_steps = state.get("balancer.own_steps").and_then(|v| v.first()).copied().unwrap_or_default();
        self.own = (state.get("balancer.own").cloned().unwrap_or_default(), own_steps);
        self.method.restore(state)?;
        (self.step, self.epoch, self.kept) = (*step as usize, *epoch as usize, kept);
        self.epoch_start = (*epoch_start as usize).min(self.step);
        Ok(())
    }

    /// The method's answer, checked for its shape.
    fn mix(&mut self, losses: &[f64], signals: &Signals, gram: &[Vec<f64>], modalities: usize) -> Result<Mix> {
        let clock = self.clock();
        let mix = self.method.mix(&Evidence { clock, modalities, losses, signals, blocks: &self.infos, gram })?;
        self.fits(&mix, losses.len())?;
        Ok(mix)
    }

    /// Whether a mix has a row for each block, and in it a coefficient for each of `k` objectives.
    fn fits(&self, mix: &Mix, k: usize) -> Result<()> {
        let blocks = self.blocks.len();
        let (rows, scales) = (mix.coefficients.len(), mix.step_scale.len());
        if rows != blocks || scales != blocks {
            let found = format!("{rows} rows of coefficients and {scales} step scales");
            return Err(Error::Msg(format!(
                "the method's mix has {found}, for {blocks} blocks: give one of each a block"
            )));
        }
        match mix.coefficients.iter().zip(&self.infos).find(|(row, _)| row.len() != k) {
            Some((row, block)) => {
                let (name, found) = (&block.name, row.len());
                Err(Error::Msg(format!(
                    "the method's mix has {found} coefficients for block `{name}`, for {k} objectives: give one each"
                )))
            }
            None => Ok(()),
        }
    }

    /// Sums gradients over ranks, each given with what it is a gradient of. A rank whose rows do not reach it adds nothing.
    fn sum<'a>(&self, gradients: impl Iterator<Item = (&'a mut Option<Tensor>, Tensor)>) -> Result<()> {
        if self.communicator.size() == 1 {
            return Ok(());
        }
        let mut gradients: Vec<_> = gradients.collect();
        let mut reached: Vec<f64> = gradients.iter().map(|(g, _)| f64::from(u8::from(g.is_some()))).collect();
        self.communicator.agree_max(&mut reached)?;
        for ((gradient, of), _) in gradients.iter_mut().zip(reached).filter(|(_, reached)| *reached > 0.0) {
            if gradient.is_none() {
                **gradient = Some(of.detach().zeros_like()?);
            }
        }
        self.communicator.sum(&mut gradients.iter_mut().filter_map(|(g, _)| g.as_mut()).collect::<Vec<_>>())
    }

    /// One backward per objective, one Gram matrix and one blend per block.
    fn exact(
        &mut self,
        objectives: &[Objective],
        losses: &[f64],
        signals: &Signals,
        early: Option<Mix>,
        outputs: &Outputs,
    ) -> Result<(GradStore, Mix)> {
        let device = outputs.fused.device();
        let mut stores = map_on(device, objectives, |o| o.loss.backward())?;
        let mut rows_of = Vec::with_capacity(self.blocks.len());
        for block in &self.blocks {
            let tensors = places(block, outputs);
            let row = |store: &mut GradStore| tensors.iter().map(|t| store.remove(t)).collect::<Vec<_>>();
            rows_of.push(stores.iter_mut().map(row).collect::<Vec<_>>());
        }
        // What a Gram matrix, or noise, reads must be whole first; all else is blended first: one row to sum, not k. Where the
        // graph was cut, every rank has the gradients of the whole batch already.
        let all = self.needs.gram == GramScope::All;
        let noisy = early.as_ref().is_some_and(|mix| mix.noise != 0.0);
        let read = |block: &Block| noisy || (early.is_none() && (all || matches!(block.role, Role::Tower(_))));
        let whole: Vec<bool> = self.blocks.iter().map(|b| outputs.leaves.is_some() || read(b)).collect();
        if outputs.leaves.is_none() {
            let read = rows_of.iter_mut().zip(&self.blocks).zip(&whole).filter(|(_, whole)| **whole);
            self.sum(read.flat_map(|((rows, block), _)| {
                rows.iter_mut().flat_map(|row| row.iter_mut().zip(places(block, outputs)))
            }))?;
        }
        let mix = match early {
            Some(mix) => mix,
            None => {
                let blocks: Vec<_> = self.blocks.iter().zip(&rows_of).collect();
                let grams = map_on(device, &blocks, |(block, rows)| {
                    let wanted = all || matches!(block.role, Role::Tower(_));
                    if wanted { block_gram(block, rows, outputs) } else { Ok(Vec::new()) }
                })?;
                self.mix(losses, signals, &grams, outputs.modalities())?
            }
        };
        if mix.noise != 0.0 && !outputs.taps.is_empty() {
            return Err(Error::Msg("noise wants whole gradients: leave `Outputs::taps` empty".into()));
        }
        let mut numbered = Vec::with_capacity(self.blocks.len());
        for (b, rows) in rows_of.into_iter().enumerate() {
            let like = (mix.noise != 0.0).then(|| rows.first().cloned().unwrap_or_default());
            // An objective with coefficient 0 does not reach the block: no gradient of zeros, for weight decay to act on.
            let weighed = rows.into_iter().zip(mix.coefficients[b].iter().copied()).filter(|(_, c)| *c != 0.0);
            let (rows, coefficients): (Vec<_>, Vec<f64>) = weighed.unzip();
            numbered.push((b, rows, coefficients, like));
        }
        let (blocks, seed, step) = (&self.blocks, self.seed, self.step);
        let blended = map_on(device, &numbered, |(b, rows, coefficients, like)| {
            let rows: Vec<&[Option<Tensor>]> = rows.iter().map(Vec::as_slice).collect();
            let mut gradient = match (rows.as_slice(), coefficients.as_slice()) {
                ([], _) => vec![None; places(&blocks[*b], outputs).len()],
                ([row], [1.0]) => row.to_vec(),
                _ => blend(&rows, coefficients)?,
            };
            if let (Some(like), Role::Tower(_)) = (like, blocks[*b].role) {
                // Of the size of the first objective's gradient.
                for (i, (g, like)) in gradient.iter_mut().zip(like).enumerate() {
                    if let (Some(g), Some(like)) = (g.as_mut(), like) {
                        *g = add_noise(g, like, mix.noise, seed, [i as u32, *b as u32, step as u32])?;
                    }
                }
            }
            Ok(gradient)
        })?;
        Ok((self.collect(blended, outputs, &whole)?, mix))
    }

    /// The gradient of `Σ_i c_i L_i`, for coefficients that all blocks share.
    fn weighted(&self, objectives: &[Objective], mix: &Mix, outputs: &Outputs) -> Result<GradStore> {
        let shared = mix.coefficients.first().into_iter().flatten();
        self.backward_of(objectives.iter().map(|o| &o.loss).zip(shared.copied()), outputs)
    }

    /// The gradient of the one scalar that kept coefficients make of the objectives. Own heads receive the
    /// coefficients of their tower.
    fn one_scalar(&self, objectives: &[Objective], mix: &Mix, outputs: &Outputs) -> Result<GradStore> {
        let tower = |m: usize| self.infos.iter().position(|b| b.role == Role::Tower(m)).unwrap_or(0);
        let mut terms = Vec::new();
        for (i, objective) in objectives.iter().enumerate() {
            let whole = std::slice::from_ref(&objective.loss);
            let parts = if objective.parts.is_empty() { whole } else { &objective.parts[..] };
            terms.extend(parts.iter().enumerate().map(|(m, part)| (part, mix.coefficients[tower(m)][i])));
        }
        self.backward_of(terms.into_iter(), outputs)
    }

    /// One backward pass of a weighted sum.
    fn backward_of<'a>(&self, terms: impl Iterator<Item = (&'a Tensor, f64)>, outputs: &Outputs) -> Result<GradStore> {
        let mut scalar: Option<Tensor> = None;
        for (loss, c) in terms.filter(|(_, c)| *c != 0.0) {
            let term = if c == 1.0 { loss.clone() } else { (loss * c)? };
            scalar = Some(match scalar {
                None => term,
                Some(sum) => (sum + term)?,
            });
        }
        let Some(scalar) = scalar else { return Ok(GradStore::default()) };
        let mut store = scalar.backward()?;
        let of_block = |block| places(block, outputs).iter().map(|place| store.remove(place)).collect();
        let gradients = self.blocks.iter().map(of_block).collect();
        self.collect(gradients, outputs, &vec![outputs.leaves.is_some(); self.blocks.len()])
    }

    /// Puts the blended gradients into one store; where the graph was cut, pushes them through the towers first.
    /// Blocks that are not `whole` hold one rank's share, and are summed here.
    fn collect(&self, mut blended: Vec<Vec<Option<Tensor>>>, outputs: &Outputs, whole: &[bool]) -> Result<GradStore> {
        let shares = blended.iter_mut().zip(&self.blocks).zip(whole).filter(|(_, whole)| !**whole);
        self.sum(shares.flat_map(|((row, block), _)| row.iter_mut().zip(places(block, outputs))))?;
        let mut store = GradStore::default();
        let mut cotangents: Option<Tensor> = None;
        let mut factors = Vec::new();
        for (block, gradient) in self.blocks.iter().zip(blended) {
            if let (Role::Tower(m), Some(_)) = (block.role, &outputs.leaves) {
                if let Some(Some(g)) = gradient.into_iter().next() {
                    let term = (&outputs.embeddings[m] * g.detach())?.sum_all()?;
                    cotangents = Some(match cotangents {
                        None => term,
                        Some(sum) => (sum + term)?,
                    });
                }
                continue;
            }
            let found = places(block, outputs).into_iter().zip(gradient).filter_map(|(place, g)| Some((place, g?)));
            for (place, g) in found {
                match outputs.taps.iter().find(|tap| tap.leaf.id() == place.id()) {
                    Some(tap) => factors.push((tap, g)),
                    None => {
                        store.insert(&place, g);
                    }
                }
            }
        }
        let of_taps = map_on(outputs.fused.device(), &factors, |(tap, factor)| tap.gradients(factor))?;
        for (var, g) in of_taps.into_iter().flatten() {
            store.insert(var, g);
        }
        if let Some(cotangents) = cotangents {
            let mut through = cotangents.backward()?;
            let towers = self.blocks.iter().filter(|b| matches!(b.role, Role::Tower(_))).flat_map(|b| &b.vars);
            let mut found: Vec<_> = towers.map(|var| (var, through.remove(var.as_tensor()))).collect();
            self.sum(found.iter_mut().map(|(var, g)| (g, var.as_tensor().clone())))?;
            for (var, g) in found {
                if let Some(g) = g {
                    store.insert(var.as_tensor(), g);
                }
            }
        }
        Ok(store)
    }
}

/// Where a block's gradients stand after a backward pass: at its variables; at the leaf where its tower was cut; and,
/// after the variables, at the leaves of its taps.
fn places(block: &Block, outputs: &Outputs) -> Vec<Tensor> {
    if let (Role::Tower(m), Some(leaves)) = (block.role, &outputs.leaves) {
        return vec![leaves[m].as_tensor().clone()];
    }
    let tapped = |var: &Var| taps(block, outputs).any(|tap| tap.stands_for(var));
    let whole = block.vars.iter().filter(|var| !tapped(var)).map(|var| var.as_tensor().clone());
    whole.chain(taps(block, outputs).map(|tap| tap.leaf.as_tensor().clone())).collect()
}

/// The taps whose weight is in the block.
fn taps<'a>(block: &'a Block, outputs: &'a Outputs) -> impl Iterator<Item = &'a Tap> {
    outputs.taps.iter().filter(|tap| block.vars.iter().any(|var| var.as_tensor().id() == tap.weight.id()))
}

/// The Gram matrix of a block's gradients, given one row per objective as [`places`] orders them.
fn block_gram(block: &Block, rows: &[Vec<Option<Tensor>>], outputs: &Outputs) -> Result<Vec<f64>> {
    let factored = taps(block, outputs).count();
    let whole: Vec<&[Option<Tensor>]> = rows.iter().map(|row| &row[..row.len() - factored]).collect();
    let mut sums = gram(&whole)?;
    for (t, tap) in taps(block, outputs).enumerate() {
        let factors: Vec<Option<Tensor>> = rows.iter().map(|row| row[row.len() - factored + t].clone()).collect();
        tap.add_gram(&factors, &mut sums)?;
    }
    Ok(sums)
}

fn all_equal(rows: &[Vec<f64>]) -> bool {
    rows.windows(2).all(|pair| pair[0] == pair[1])
}
