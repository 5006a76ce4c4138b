//! QEMU's program: the command line of a machine, and how its process starts and ends with ours.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use super::machine::{CONSOLE_LOG, CONTROL, DISK, REPORT_LOG};
use super::ports::Forward;
use super::spec::Network;
use super::{Error, Spec};
use crate::image::disk::SectorSize;

/// QEMU's system emulator.
pub const PROGRAM: &str = "qemu-system-x86_64";

/// The command line of a machine, whose disk has sectors of that size. `cable` is its end of a cable to a switch.
pub(super) fn arguments(
    spec: &Spec,
    sector_size: SectorSize,
    forwards: &[Forward],
    cable: Option<&OwnedFd>,
) -> Vec<String> {
    let mut arguments: Vec<String> = Vec::new();
    let mut add = |option: &str, value: String| arguments.extend([option.to_owned(), value]);
    add("-name", spec.name.clone());
    add("-machine", "q35,smm=off,vmport=off,hpet=off".to_owned());
    add("-smp", spec.cpus.to_string());
    add("-m", spec.memory_mib.to_string());
    // The host's disk is not what is tested: flushes end in the page cache, which outlives QEMU.
    add("-drive", format!("if=none,id=disk,format=raw,cache=unsafe,discard=unmap,file={DISK}"));
    let sector = sector_size.bytes();
    let sectors = format!("logical_block_size={sector},physical_block_size={sector}");
    add("-device", format!("virtio-blk-pci,drive=disk,bootindex=0,{sectors}"));
    add("-netdev", network(&spec.network, forwards, cable));
    // No option ROM: nothing boots from the network, and loading it takes time.
    add("-device", format!("virtio-net-pci,netdev=net,romfile=,mac={}", spec.mac));
    add("-device", "virtio-rng-pci".to_owned());
    // Its statistics tell how much memory the guest has in use, as the guest's kernel sees it.
    add("-device", "virtio-balloon-pci,id=balloon".to_owned());
    add("-chardev", format!("file,id=console,path={CONSOLE_LOG},append=on"));
    add("-serial", "chardev:console".to_owned());
    add("-chardev", format!("file,id=report,path={REPORT_LOG},append=on"));
    add("-device", "virtio-serial-pci".to_owned());
    add("-device", "virtserialport,chardev=report,name=org.bootwright.report".to_owned());
    add("-chardev", format!("socket,id=control,path={CONTROL},server=on,wait=off"));
    add("-mon", "chardev=control,mode=control".to_owned());
    add("-display", "none".to_owned());
    arguments.extend(["-nodefaults".to_owned(), "-no-user-config".to_owned()]);
    arguments.extend(spec.accelerator.arguments().map(str::to_owned));
    arguments.extend(spec.firmware.arguments());
    arguments.extend(spec.arguments.iter().cloned());
    arguments
}

/// Cut off from everything but the forwarded ports, or whatever is on the other end of the cable.
fn network(network: &Network, forwards: &[Forward], cable: Option<&OwnedFd>) -> String {
    let (address, prefix_length, advertised) = match network {
        Network::User { address, prefix_length, advertised, .. } => (*address, *prefix_length, *advertised),
        Network::Switch(_) => {
            // The number is the same in QEMU, which inherits it.
            let number = cable.map_or(-1, AsRawFd::as_raw_fd);
            return format!("stream,id=net,addr.type=fd,addr.str={number}");
        }
    };
    let network = ipnet::Ipv4Net::new(address, prefix_length)
        .map_or_else(|_| address.to_string(), |network| network.trunc().to_string());
    // Where IPv6 is asked for, IPv4 has to be as well.
    let families = advertised.map_or("ipv6=off".to_owned(), |network| {
        format!("ipv4=on,ipv6=on,ipv6-prefix={},ipv6-prefixlen={}", network.network(), network.prefix_len())
    });
    let mut text = format!("user,id=net,restrict=on,{families},net={network}");
    for forward in forwards {
        text += &format!(",hostfwd=tcp:127.0.0.1:{}-{}:{}", forward.host, address, forward.guest);
    }
    text
}

/// Has the kernel kill the process when the thread that starts it ends.
pub(super) fn die_with_parent(command: &mut Command) {
    let parent = rustix::process::getpid();
    // SAFETY: between fork and exec only system calls are made, no memory is allocated.
    unsafe {
        command.pre_exec(move || {
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
            // The parent may have died before the call above.
            if rustix::process::getppid() != Some(parent) {
                return Err(std::io::ErrorKind::NotFound.into());
            }
            Ok(())
        });
    }
}

/// Has the process inherit a descriptor under the number that it has here.
pub(super) fn inherit(command: &mut Command, descriptor: &OwnedFd) {
    let number = descriptor.as_fd().as_raw_fd();
    // SAFETY: between fork and exec only a system call is made, on a descriptor that the caller keeps open until the
    // process is started.
    unsafe {
        command.pre_exec(move || {
            let descriptor = BorrowedFd::borrow_raw(number);
            Ok(rustix::io::fcntl_setfd(descriptor, rustix::io::FdFlags::empty())?)
        });
    }
}

/// Why QEMU could not be started.
pub(super) fn spawn_error(error: std::io::Error) -> Error {
    if error.kind() == std::io::ErrorKind::NotFound {
        Error::MissingProgram { program: PROGRAM, package: "qemu-system-x86" }
    } else {
        Error::File { action: "start", path: PROGRAM.into(), source: error }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn the_network_is_cut_off_but_for_the_forwarded_ports() {
        let folder = tempfile::tempdir().unwrap();
        let forwards = [Forward { guest: 6443, host: 40001 }, Forward { guest: 30080, host: 40002 }];
        assert_eq!(
            network(&Spec::example(folder.path()).network, &forwards, None),
            "user,id=net,restrict=on,ipv6=off,net=10.0.2.0/24,\
             hostfwd=tcp:127.0.0.1:40001-10.0.2.15:6443,hostfwd=tcp:127.0.0.1:40002-10.0.2.15:30080"
        );
    }

    #[test]
    fn a_network_that_is_advertised_is_as_much_cut_off() {
        let alone = Network::User {
            address: Ipv4Addr::new(10, 20, 0, 10),
            prefix_length: 24,
            advertised: Some("fd00:20::/64".parse().unwrap()),
            ports: Vec::new(),
        };
        assert_eq!(
            network(&alone, &[], None),
            "user,id=net,restrict=on,ipv4=on,ipv6=on,ipv6-prefix=fd00:20::,ipv6-prefixlen=64,net=10.20.0.0/24"
        );
    }
}
