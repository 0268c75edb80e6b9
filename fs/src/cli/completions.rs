//! `gleanfs completions`: shell completions on stdout.

use clap::CommandFactory;
use clap_complete::Shell;

use super::failure::Result;

/// Print completions for a shell.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gleanfs completions bash > /etc/bash_completion.d/gleanfs
  gleanfs completions zsh  > ~/.zfunc/_gleanfs
  gleanfs completions fish > ~/.config/fish/completions/gleanfs.fish")]
pub struct Args {
    shell: Shell,
}

pub fn run(arguments: &Args) -> Result<()> {
    clap_complete::generate(arguments.shell, &mut super::Cli::command(), "gleanfs", &mut std::io::stdout());
    Ok(())
}
