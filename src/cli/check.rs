//! `check`: all mistakes of the configuration at once. Pure; only `--connect` touches the network.

use clap::Args;

use crate::app::look::Looked;
use crate::app::run::obstacles;
use crate::cli::Context;
use crate::cli::exit::Failure;
use crate::cli::output::{Busy, remark};
use crate::config::load::{Loaded, load};
use crate::config::problems::Problems;
use crate::config::source::Disk;
use crate::connector::problem::{Problem, render};

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Then log in everywhere, and say what was found
    #[arg(long)]
    pub connect: bool,
}

/// `check`.
pub async fn check(context: &Context, args: &CheckArgs) -> Result<(), Failure> {
    let (loaded, problems, warnings) = match load(&context.config, &Disk) {
        Ok(loaded) => {
            let mut problems = loaded.channel_problems();
            let file = context.config.display().to_string();
            problems.extend(obstacles(&loaded.config).into_iter().map(|message| Problem::whole(&file, message)));
            let warnings = loaded.warnings.clone();
            (Some(loaded), problems, warnings)
        }
        Err(problems) => (None, problems.0, Vec::new()),
    };
    if context.output.json && !(args.connect && problems.is_empty()) {
        let rows: Vec<serde_json::Value> = problems.iter().chain(&warnings).map(json).collect();
        context.output.show(&rows, |_| String::new())?;
    } else if !warnings.is_empty() {
        remark(&format!("{}\n", render(&warnings)));
    }
    if !problems.is_empty() {
        // With --json the mistakes are on standard output already.
        return Err(if context.output.json { Failure::Config(Problems(Vec::new())) } else { Failure::Config(Problems(problems)) });
    }
    let Some(loaded) = loaded else { return Ok(()) };
    if !context.output.json {
        remark(&format!("{}: {}", context.config.display(), summary(&loaded)));
    }
    if args.connect { connect(context, &loaded).await } else { Ok(()) }
}

fn summary(loaded: &Loaded) -> String {
    let count = |number: usize, one: &str| if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") };
    format!(
        "no mistakes; {}, {}, {}",
        count(loaded.channels.len(), "channel"),
        count(loaded.config.destinations.len(), "destination"),
        count(loaded.config.routes.len(), "route")
    )
}

fn json(problem: &Problem) -> serde_json::Value {
    let severity = if problem.severity == crate::connector::problem::Severity::Error { "error" } else { "warning" };
    serde_json::json!({
        "severity": severity, "file": problem.file, "line": problem.line, "column": problem.col, "length": problem.length,
        "message": problem.message, "suggestion": problem.suggestion,
    })
}

/// Logs in everywhere. What was found goes to standard output, one line each.
async fn connect(context: &Context, loaded: &Loaded) -> Result<(), Failure> {
    let busy = Busy::with("connecting");
    let rows = crate::app::look::check_connect(loaded).await;
    drop(busy);
    let line = |row: &Looked| format!("{}  {} {}: {}\n", if row.ok { "ok    " } else { "FAILED" }, row.kind, row.name, row.line);
    context.output.show(&rows, |rows| rows.iter().map(line).collect::<String>())?;
    match rows.iter().filter(|row| !row.ok).count() {
        0 => Ok(()),
        bad => Err(Failure::Failed(format!("{bad} failed"))),
    }
}
