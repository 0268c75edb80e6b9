//! `gleanfs model`: which model a mount asks.

mod samples;

use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};

use super::assemble;
use super::ctl::unexpected;
use super::failure::{About, Failure, Result};
use super::options::MountOptions;
use crate::control::message::ModelRole;
use crate::control::{Client, Request, Response};

/// Choose the model that a mount's cleaner asks; write what models are fitted to.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gleanfs model fetch                  the ONNX Runtime library, once, into the cache
  gleanfs model check new.onnx         what a mount would say of it
  gleanfs model samples --load files,zipf:1 rows.csv.gz
  gleanfs model list /mnt
  gleanfs model use /mnt new.onnx      validated, tried in shadow, then switched to; refused files change nothing
  gleanfs model rollback /mnt          back to the one before")]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum What {
    /// Check a model file as a mount would, in a worker process, without one
    Check {
        file: PathBuf,
        /// Age past which an answer is not used, in microseconds
        #[arg(long, default_value_t = MountOptions::default().deadline_us)]
        deadline: u32,
        /// ONNX Runtime library [the cached one]
        #[arg(long)]
        library: Option<PathBuf>,
    },
    /// Fetch the ONNX Runtime library into the cache, unless it is there
    Fetch,
    /// Write what a model is fitted to: rows of features and what became of them
    Samples(Box<samples::Args>),
    /// Switch a mount to another model while it runs
    Use { mount_point: PathBuf, file: PathBuf },
    /// Return a mount to the model before
    Rollback { mount_point: PathBuf },
    /// List the models that a mount knows
    List { mount_point: PathBuf },
}

pub fn run(arguments: &Args) -> Result<()> {
    match &arguments.what {
        What::Check { file, deadline, library } => {
            println!("{}", assemble::check_model(file, *deadline, library.clone())?);
            Ok(())
        }
        What::Fetch => fetch(),
        What::Samples(arguments) => samples::run(arguments),
        What::Use { mount_point, file } => {
            let path = file.canonicalize().about(file.display())?;
            let named = || Failure::new(format_args!("{}: the path is not UTF-8; move the file", path.display()));
            let path = path.to_str().ok_or_else(named)?.to_owned();
            ask(mount_point, &Request::ModelUse { path })
        }
        What::Rollback { mount_point } => ask(mount_point, &Request::ModelRollback),
        What::List { mount_point } => ask(mount_point, &Request::ModelList),
    }
}

fn fetch() -> Result<()> {
    let bar = ProgressBar::new(1);
    let style = ProgressStyle::with_template("{msg:<12} {bar:40} {bytes} of {total_bytes}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let outcome = assemble::fetch_library(&mut |what, done, total| {
        bar.set_message(what.to_owned());
        bar.set_length(total);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    println!("{}", outcome?.display());
    Ok(())
}

fn ask(mount_point: &Path, request: &Request) -> Result<()> {
    match Client::connect(mount_point)?.ask(request)? {
        Response::Done(line) => println!("{line}"),
        Response::Models(models) => {
            for model in models {
                let role = match model.role {
                    ModelRole::Active => "active",
                    ModelRole::Shadow => "shadow",
                    ModelRole::Previous => "previous",
                };
                println!("{:<9} {role:<9} {:.12} {}", model.kind, model.sha256, model.name);
            }
        }
        other => return Err(unexpected(&other)),
    }
    Ok(())
}
