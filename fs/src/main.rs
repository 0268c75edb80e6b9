//! The one program of gleanfs. Everything that it does is in [`gleanfs::cli`].

fn main() -> std::process::ExitCode {
    gleanfs::cli::main()
}
