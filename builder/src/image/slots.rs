//! Room for the OS layer of an upgrade: the second root slot, which first boot makes behind the image.

use bootwright_model::baked::SecondSlot;

use super::disk::ALIGNMENT;
use super::verity;

/// Room that a layer has to grow, in sizes of itself.
const GROWTH: u64 = 2;
/// Least room for a root, bytes: small layers grow by whole packages.
const LEAST_ROOT: u64 = 512 << 20;

/// The slot for layers to come, beside one whose squashfs has `root_size` bytes: twice that, at least 512 MiB, in whole
/// MiB, and the hash tree of a root that fills it.
pub fn second_slot(root_size: u64) -> SecondSlot {
    let root_bytes = root_size.saturating_mul(GROWTH).max(LEAST_ROOT).next_multiple_of(ALIGNMENT);
    SecondSlot { root_bytes, verity_bytes: verity::tree_size(root_bytes).next_multiple_of(ALIGNMENT) }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_slot_has_room_for_a_layer_of_twice_the_size() {
        assert_eq!(second_slot(150 << 20), SecondSlot { root_bytes: 512 << 20, verity_bytes: 5 << 20 });
        let large = second_slot((900 << 20) + 4096);
        assert_eq!(large, SecondSlot { root_bytes: 1801 << 20, verity_bytes: 15 << 20 });
        // A gigabyte has 262144 blocks: 2048, 16 and 1 of digests, and the superblock.
        assert_eq!(verity::tree_size(1 << 30), 2066 * 4096);
    }

    #[test]
    fn the_size_of_a_hash_tree_is_known_before_it_is_made() {
        for blocks in [1, 2, 128, 129, 128 * 128, 128 * 128 + 1] {
            let data = vec![7; blocks * verity::BLOCK_SIZE];
            let tree = verity::hash_tree(&mut &data[..], &[], Uuid::nil()).unwrap();
            assert_eq!(verity::tree_size(data.len() as u64), tree.bytes.len() as u64, "{blocks} blocks");
        }
    }
}
