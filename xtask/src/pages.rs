//! Checks of the docs that need tools of other languages or homes: the book builds, and the reader for MLflow logs a run.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::reproduce::succeed;

/// Builds the book with mdBook, which is installed for it.
pub(crate) fn book(scratch: &Path) -> Result<()> {
    let tools = scratch.join("tools");
    let mdbook = tools.join("bin").join(format!("mdbook{}", std::env::consts::EXE_SUFFIX));
    if !mdbook.is_file() {
        let mut install = crate::cargo();
        succeed(install.args(["install", "mdbook", "--version", "0.5.4", "--locked", "--root"]).arg(&tools))?;
    }
    let output = Command::new(mdbook)
        .arg("build")
        .arg(crate::root().join("docs"))
        .arg("--dest-dir")
        .arg(scratch.join("book"))
        .output()
        .context("cannot start mdbook")?;
    let said = String::from_utf8_lossy(&output.stderr);
    eprint!("{said}");
    if !output.status.success() || said.contains("WARN") || said.contains("ERROR") {
        bail!("the book does not build without warnings");
    }
    Ok(())
}

/// What reads the store back, and holds the curve of validation accuracy against `metrics.jsonl`.
const READ_BACK: &str = "
import json, sys, mlflow
run, = mlflow.search_runs(search_all_experiments=True, output_format='list')
history = mlflow.MlflowClient().get_metric_history(run.info.run_id, 'epoch/accuracy')
lines = [json.loads(line) for line in open(sys.argv[1] + '/metrics.jsonl')]
truth = [(line['step'], line['val']['accuracy']) for line in lines if line['kind'] == 'epoch']
assert len(truth) == 2 and sorted((m.step, m.value) for m in history) == truth, (history, truth)
record = json.load(open(sys.argv[1] + '/results.json'))
assert run.data.metrics['test/missing-image/accuracy'] == record['test']['missing-image']['accuracy']
assert run.data.params['method'] == 'balgrad'
print(len(run.data.metrics), 'metrics in the store of MLflow', mlflow.__version__)
";

/// Logs a run with the reader that `docs/tracking.md` prints, by MLflow from PyPI into a store of files.
pub(crate) fn mlflow(scratch: &Path) -> Result<()> {
    let folder = scratch.join("mlflow");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder)?;
    let page = std::fs::read_to_string(crate::root().join("docs/tracking.md"))?;
    let reader = page.split("```python\n").nth(1).and_then(|rest| rest.split("```").next());
    std::fs::write(folder.join("log.py"), reader.context("docs/tracking.md has no Python in it")?)?;
    std::fs::write(folder.join("read_back.py"), READ_BACK)?;
    let venv = scratch.join("mlflow-venv");
    let python = venv.join("bin/python");
    if !python.is_file() {
        succeed(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
        succeed(Command::new(&python).args(["-m", "pip", "install", "--quiet", "mlflow-skinny>=3"]))?;
    }
    let run = folder.join("run");
    let mut train = crate::cargo();
    train.args([
        "run",
        "--quiet",
        "--package",
        "balgrad-trainer",
        "--",
        "train",
        "--data",
        "emoji",
        "--method",
        "balgrad",
    ]);
    succeed(train.args(["--set", "epochs=2", "--quiet", "--out"]).arg(&run))?;
    let store = format!("file://{}", folder.join("store").display());
    for script in ["log.py", "read_back.py"] {
        let mut command = Command::new(&python);
        command.arg(folder.join(script)).arg(&run);
        // MLflow advises a database, and keeps files for those who ask for them.
        succeed(command.env("MLFLOW_TRACKING_URI", &store).env("MLFLOW_ALLOW_FILE_STORE", "true"))?;
    }
    Ok(())
}
