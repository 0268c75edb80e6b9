//! `gleanfs model`: which model a mount asks.

use std::path::{Path, PathBuf};

use super::ctl::unexpected;
use super::failure::{About, Failure, Result};
use crate::control::message::ModelRole;
use crate::control::{Client, Request, Response};

/// Choose the model that a mount's cleaner asks.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gleanfs model list /mnt
  gleanfs model use /mnt new.onnx      validated, tried in shadow, then switched to; refused files change nothing
  gleanfs model rollback /mnt          back to the one before")]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum What {
    /// Switch a mount to another model while it runs
    Use { mount_point: PathBuf, file: PathBuf },
    /// Return a mount to the model before
    Rollback { mount_point: PathBuf },
    /// List the models that a mount knows
    List { mount_point: PathBuf },
}

pub fn run(arguments: &Args) -> Result<()> {
    match &arguments.what {
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
                println!("{role:<9} {:.12} {}", model.sha256, model.name);
            }
        }
        other => return Err(unexpected(&other)),
    }
    Ok(())
}
