//! Commands that print something and end: the configuration, completions, manual pages.

use std::io::{self, Write};

use crate::cli::{self, Print};
use crate::config::{self, ConfigErrors, Loaded};
use crate::run;

/// Why a command that prints did not.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PrintError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// The configuration can be read, and the server would not start with it.
    #[error("{}", lines(.0))]
    Check(Vec<run::RunError>),
    /// There is no such command to print the manual of.
    #[error("there is no command `{0}` in `herenow`")]
    NoCommand(String),
    /// The output is closed, or full.
    #[error("cannot write: {0}")]
    Write(#[from] io::Error),
}

/// Prints what is asked for to `out`. Whoever reads a pipe may stop when they have seen enough.
///
/// # Errors
///
/// [`PrintError`]
///
/// # Panics
///
/// Outside of tokio.
pub async fn run(print: &Print, out: &mut impl Write) -> Result<(), PrintError> {
    let text = render(print).await?;
    match out.write_all(&text).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

async fn render(print: &Print) -> Result<Vec<u8>, PrintError> {
    let mut text = Vec::new();
    let out = &mut text;
    match print {
        Print::Check(sources) => {
            let config = Loaded::read(sources)?.config;
            let errors = run::check(&config).await;
            if !errors.is_empty() {
                return Err(PrintError::Check(errors));
            }
            writeln!(out, "the configuration is fine")?;
        }
        Print::Show(sources) => write!(out, "{}", config::show(&Loaded::read(sources)?))?,
        Print::Reference => write!(out, "{}", config::reference())?,
        Print::Completions(shell) => {
            clap_complete::generate(*shell, &mut cli::command(), "herenow", out);
        }
        Print::Manual(path) => manual(path, out)?,
    }
    Ok(text)
}

/// The manual page of the program, or of the command at `path`.
fn manual(path: &[String], out: &mut impl Write) -> Result<(), PrintError> {
    let mut command = cli::command();
    command.build();
    for name in path {
        let found = command.find_subcommand(name).cloned();
        command = found.ok_or_else(|| PrintError::NoCommand(path.join(" ")))?;
    }
    clap_mangen::Man::new(command).render(out)?;
    Ok(())
}

fn lines(errors: &[run::RunError]) -> String {
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    lines.join("\n")
}
