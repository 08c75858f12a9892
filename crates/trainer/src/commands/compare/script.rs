//! A grid as something that a scheduler takes: printed, and submitted by whoever reads it.

use std::num::NonZeroUsize;

use anyhow::{Context, Result};

use crate::Usage;

/// Seconds that runs have to save themselves before they are ended.
const NOTICE: u32 = 120;

/// Tasks of an array at most: Slurm's own bound, unless a cluster sets another.
const TASKS: usize = 1000;

/// The command line that was given, without what asks for a script.
struct Command {
    program: String,
    arguments: Vec<String>,
}

impl Command {
    fn given() -> Result<Self> {
        let words = std::env::args_os().map(|word| word.into_string().ok());
        let mut words =
            words.collect::<Option<Vec<_>>>().ok_or_else(|| Usage("an argument is no UTF-8".into()))?.into_iter();
        let program = words.next().unwrap_or_default();
        let asks = |word: &String| ["--sbatch", "--kubernetes"].contains(&word.split('=').next().unwrap_or_default());
        Ok(Self { program, arguments: words.filter(|word| !asks(word)).collect() })
    }

    /// The name that finds the program where its path is not known.
    fn name(&self) -> &str {
        self.program.rsplit('/').next().unwrap_or_default()
    }
}

fn tasks(runs: usize, asked: Option<NonZeroUsize>) -> usize {
    asked.map_or(TASKS, NonZeroUsize::get).min(runs)
}

/// A batch script for Slurm: an array that goes on by itself after a time limit, a preemption or the death of a node.
pub(super) fn sbatch(runs: usize, asked: Option<NonZeroUsize>) -> Result<String> {
    let command = Command::given()?;
    let folder = std::env::current_dir().context("cannot tell the current folder")?;
    // A program that was called by its path is called by it there too.
    let program = match command.program.contains('/') {
        true => std::env::current_exe().context("cannot find this program")?.display().to_string(),
        false => command.program.clone(),
    };
    let words = std::iter::once(&program).chain(&command.arguments).map(|word| quoted(word));
    let (words, folder) = (words.collect::<Vec<_>>().join(" "), quoted(&folder.to_string_lossy()));
    let (tasks, last) = (tasks(runs, asked), tasks(runs, asked) - 1);
    Ok(format!(
        "\
#!/bin/bash
# {runs} runs in {tasks} tasks. Submit this file with sbatch; what else the cluster wants (--partition, --account, --time, --mem,
# --gres=gpu:1) goes on sbatch's command line or here.
#SBATCH --array=0-{last}
#SBATCH --cpus-per-task=2
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=USR1@{NOTICE}
cd {folder} || exit
srun --ntasks=1 --cpus-per-task=\"$SLURM_CPUS_PER_TASK\" {words} --shard auto
code=$?
# 138: stopped by USR1 as the time was nearly over. Every run has saved itself; the task goes on when it has time again.
[ \"$code\" -ne 138 ] || scontrol requeue \"$SLURM_JOB_ID\"
exit \"$code\"
"
    ))
}

/// A manifest of an Indexed Job for Kubernetes.
pub(super) fn kubernetes(runs: usize, asked: Option<NonZeroUsize>) -> Result<String> {
    let command = Command::given()?;
    let (tasks, program) = (tasks(runs, asked), command.name());
    let more = ["--shard".to_owned(), format!("auto/{tasks}")];
    let words = std::iter::once(program).chain(command.arguments.iter().chain(&more).map(String::as_str));
    let words = serde_json::to_string(&words.collect::<Vec<_>>())?;
    Ok(format!(
        "\
# {runs} runs in {tasks} pods. Replace REGISTRY/{program} by your image and CLAIM by a volume that all pods can write; paths of the
# command are below /work. Submit this file with kubectl create -f. Kubernetes 1.29 or newer.
apiVersion: batch/v1
kind: Job
metadata:
  generateName: {program}-grid-
spec:
  completionMode: Indexed
  completions: {tasks}
  parallelism: {tasks}
  backoffLimitPerIndex: 3
  podFailurePolicy:
    rules:
      # A mistake in the command is one in every pod.
      - action: FailJob
        onExitCodes:
          operator: In
          values: [2]
      # A pod that was moved goes on elsewhere; it is no failure.
      - action: Ignore
        onPodConditions:
          - type: DisruptionTarget
            status: \"True\"
  template:
    spec:
      restartPolicy: Never
      # From SIGTERM, at which every run saves itself, to SIGKILL.
      terminationGracePeriodSeconds: {NOTICE}
      containers:
        - name: {program}
          image: REGISTRY/{program}
          command: {words}
          workingDir: /work
          env:
            - name: BALGRAD_CACHE
              value: /work/cache
          resources:
            requests:
              cpu: \"2\"
            limits:
              cpu: \"2\"
          volumeMounts:
            - name: work
              mountPath: /work
      volumes:
        - name: work
          persistentVolumeClaim:
            claimName: CLAIM
"
    ))
}

/// A word as a shell reads it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_reach_the_program_as_they_were_given() {
        for (word, shown) in
            [("a/b=c", "a/b=c"), ("", "''"), ("two words", "'two words'"), ("it's", r"'it'\''s'"), ("$x", "'$x'")]
        {
            assert_eq!(quoted(word), shown);
        }
    }

    #[test]
    fn no_task_is_without_a_run() {
        assert_eq!(tasks(28, None), 28);
        assert_eq!(tasks(28, NonZeroUsize::new(4)), 4);
        assert_eq!(tasks(3, NonZeroUsize::new(4)), 3);
        assert_eq!(tasks(5000, None), TASKS);
    }
}
