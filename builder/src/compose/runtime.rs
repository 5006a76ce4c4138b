//! The programs that go into an image and are ours: first boot, the agent, pause and the probe.

use std::path::{Path, PathBuf};

use super::ComposeError;

/// Where the programs lie.
#[derive(Debug, Clone)]
pub struct Runtime {
    /// PID 1 of the image, statically linked.
    pub firstboot: PathBuf,
    /// The agent, statically linked.
    pub agent: PathBuf,
    /// The process of a pod's sandbox, statically linked.
    pub pause: PathBuf,
    /// What the pods of `bootwright validate` run, statically linked.
    pub probe: PathBuf,
}

impl Runtime {
    /// Looks into the folder that was named, else beside this program.
    pub fn find(option: Option<&Path>) -> Result<Runtime, ComposeError> {
        let folder = match option {
            Some(folder) => folder.to_owned(),
            None => beside_this_program()?,
        };
        let place = |name| folder.join(name);
        let runtime = Runtime {
            firstboot: place("firstboot"),
            agent: place("agent"),
            pause: place("pause"),
            probe: place("probe"),
        };
        for program in [&runtime.firstboot, &runtime.agent, &runtime.pause, &runtime.probe] {
            check_static(program)?;
        }
        Ok(runtime)
    }
}

fn beside_this_program() -> Result<PathBuf, ComposeError> {
    let program = std::env::current_exe().map_err(ComposeError::OwnPath)?;
    Ok(program.parent().map(Path::to_owned).unwrap_or_default())
}

/// Refuses a program that needs a loader: the initramfs has none, and the kernel would panic with
/// "No working init found", which says nothing to the person who forgot a linker flag.
fn check_static(program: &Path) -> Result<(), ComposeError> {
    use object::read::elf::{ElfFile64, FileHeader, ProgramHeader};
    let bytes = std::fs::read(program)
        .map_err(|source| ComposeError::Runtime { path: program.to_owned(), why: source.to_string() })?;
    let refuse = |why: &str| ComposeError::Runtime { path: program.to_owned(), why: why.to_owned() };
    let elf: ElfFile64<'_, object::Endianness> =
        ElfFile64::parse(&*bytes).map_err(|_| refuse("it is not a 64-bit ELF program"))?;
    let header = elf.elf_header();
    if header.e_machine(elf.endian()) != object::elf::EM_X86_64 {
        return Err(refuse("it is not an x86_64 program"));
    }
    let interpreter =
        elf.elf_program_headers().iter().any(|part| part.p_type(elf.endian()) == object::elf::PT_INTERP);
    if interpreter {
        return Err(refuse("it is dynamically linked; build it with `-C target-feature=+crt-static`"));
    }
    Ok(())
}
