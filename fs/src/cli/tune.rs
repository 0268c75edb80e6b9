//! `gleanfs tune`: label and UUID of an image that is not mounted.

use std::path::PathBuf;
use std::str::FromStr;

use super::assemble;
use super::failure::Result;
use crate::meta::tune::Changes;

/// Show or change the label and the UUID of an image that is not mounted.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
One block is written; a crash leaves the old names or the new ones. Without options the names are shown.

Examples:
  gleanfs tune disk.img
  gleanfs tune --label data disk.img
  gleanfs tune --uuid random copy.img      for a copy that is to be told from its original")]
pub struct Args {
    /// Device, image file or zoned image
    path: PathBuf,
    /// Name of the filesystem, at most 63 bytes; \"\" for none
    #[arg(short = 'L', long)]
    label: Option<String>,
    /// A UUID, or `random`
    #[arg(short = 'U', long)]
    uuid: Option<NewUuid>,
}

#[derive(Clone, Copy, Debug)]
struct NewUuid(uuid::Uuid);

impl FromStr for NewUuid {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "random" => Ok(Self(uuid::Uuid::new_v4())),
            _ => text.parse().map(Self).map_err(|_| format!("'{text}' is neither a UUID nor the word random")),
        }
    }
}

pub fn run(arguments: &Args) -> Result<()> {
    let changes = Changes { label: arguments.label.clone(), uuid: arguments.uuid.map(|uuid| uuid.0.into_bytes()) };
    let now = assemble::tune(&arguments.path, &changes)?;
    println!("label \"{}\"\nUUID {}", now.label.escape_debug(), uuid::Uuid::from_bytes(now.uuid));
    Ok(())
}
