// SPDX-License-Identifier: GPL-2.0-only

//! Groups an image's objects into packs. Documentation/store.rst explains what the constants cost.

use crate::pack::{New, Pack, Sum};
use daxfs_reader::layout;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

/// Minimum bytes of objects before a pack ends where its content decides.
const LEAST: u64 = 256 << 10;

/// Average number of bytes from there to the end of a pack.
const MORE: u64 = 256 << 10;

/// Maximum bytes of objects that share a pack.
const MOST: u64 = 1 << 20;

/// Minimum size of an object that gets its own pack.
const LARGE: u64 = 512 << 10;

/// Required bytes in an image's packs per byte that the image does not need.
const SPARE: u64 = 50;

/// Bytes that an image's packs may always contain in excess of its needs, however small it is.
const SPARE_LEAST: u64 = 64 << 10;

/// Maximum number of new packs of an image, and of existing packs that it uses besides.
const USED_MAX: usize = layout::PACKS_MAX as usize / 2;

/// Returns for each object the index in `packs` of its pack. Objects to store again are missing.
///
/// Packs are loaded as a whole, so those with the least excess come first. A pack is skipped if the
/// image needs less than half of it, or if all excess would exceed [`SPARE`] and [`SPARE_LEAST`].
pub fn choose(objects: &BTreeMap<Sum, u64>, packs: &[Arc<Pack>]) -> HashMap<Sum, usize> {
    let wanted = |pack: &Pack| -> u64 {
        let wanted = pack.objects().filter(|(sum, _)| objects.contains_key(*sum));
        wanted.map(|(_, object)| object.size).sum()
    };
    let mut candidates: Vec<_> = packs
        .iter()
        .enumerate()
        .map(|(index, pack)| (wanted(pack), index))
        .filter(|(wanted, _)| *wanted > 0)
        .collect();
    candidates.sort_by(|&(wanted, index), &(other, with)| {
        // Compare the needed shares of the packs.
        let part = u128::from(wanted) * u128::from(packs[with].bytes);
        let other_part = u128::from(other) * u128::from(packs[index].bytes);
        let larger = other_part.cmp(&part).then(other.cmp(&wanted));
        let name = |index: usize| packs[index].reference.sha256;
        larger.then_with(|| name(index).cmp(&name(with)))
    });
    let mut spare = SPARE_LEAST.max(objects.values().sum::<u64>() / SPARE);
    let mut chosen = HashMap::new();
    let mut used = 0;
    for (_, index) in candidates {
        let pack = &packs[index];
        let more = pack.objects().map(|(sum, _)| *sum);
        let more: Vec<Sum> = more
            .filter(|sum| objects.contains_key(sum) && !chosen.contains_key(sum))
            .collect();
        let bytes: u64 = more.iter().map(|sum| objects[sum]).sum();
        let rest = pack.bytes - bytes;
        if bytes > 0 && rest <= bytes && rest <= spare && used < USED_MAX {
            spare -= rest;
            used += 1;
            chosen.extend(more.into_iter().map(|sum| (sum, index)));
        }
    }
    chosen
}

/// Splits `lists`, all new objects of an image, into packs, larger ones if there would be too many.
pub fn split(lists: &[Vec<New>]) -> Vec<&[New]> {
    // Grow by powers of two, so that the next version is likely to have packs of the same size.
    let splits = (0..).map(|power| -> Vec<_> {
        let packs = lists.iter().flat_map(|list| {
            let packs = split_by(list, 1 << power).into_iter();
            packs.map(|pack| &list[pack])
        });
        packs.collect()
    });
    let mut fitting = splits.filter(|packs| packs.len() <= USED_MAX);
    fitting.next().unwrap_or_default()
}

/// Splits `objects`, sorted by time, into packs `grown` times as large as usual.
///
/// Files of one package or build have the same time, and come and go together. So a pack ends where
/// the time changes, or at an object that its name selects, where other versions' packs end as
/// well.
fn split_by(objects: &[New], grown: u64) -> Vec<Range<usize>> {
    let [least, more, most, large] = [LEAST, MORE, MOST, LARGE].map(|bytes| bytes * grown);
    let mut packs = Vec::new();
    let (mut start, mut bytes) = (0, 0_u64);
    for (index, object) in objects.iter().enumerate() {
        if object.size >= large {
            packs.extend([start..index, index..index + 1]);
            (start, bytes) = (index + 1, 0);
            continue;
        }
        if bytes + object.size > most {
            packs.push(start..index);
            (start, bytes) = (index, 0);
        }
        bytes += object.size;
        let next = objects.get(index + 1);
        let is_last = next.is_none_or(|next| next.time != object.time);
        let number = u64::from_le_bytes(std::array::from_fn(|at| object.sum[at]));
        let is_end = u128::from(number) * u128::from(more) < u128::from(object.size) << 64;
        if bytes >= least && (is_last || is_end) {
            packs.push(start..index + 1);
            (start, bytes) = (index + 1, 0);
        }
    }
    packs.push(start..objects.len());
    packs.retain(|pack| !pack.is_empty());
    packs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack::Object;
    use mkdaxfs::writer::tree;
    use sha2::{Digest, Sha256};
    use std::collections::BTreeSet;

    /// Returns objects of 1,000 to 101,000 bytes with these numbers; every six have the same time.
    fn objects(numbers: Range<u64>) -> Vec<New> {
        let object = |number: u64| {
            let sum = Sum::from(Sha256::digest(number.to_le_bytes()));
            New {
                sum,
                size: 1000 + u64::from(sum[9]) * 392,
                time: (number / 6) as i64,
                node: 0,
            }
        };
        numbers.map(object).collect()
    }

    fn bytes(objects: &[New]) -> u64 {
        objects.iter().map(|object| object.size).sum()
    }

    #[test]
    fn sizes() {
        let mut all = objects(0..1000);
        all[500].size = LARGE;
        let packs = split_by(&all, 1);
        assert!(packs.contains(&(500..501)));
        let ends: Vec<usize> = packs.iter().map(|pack| pack.end).collect();
        let starts: Vec<usize> = packs.iter().map(|pack| pack.start).collect();
        assert_eq!((starts[0], &ends[..ends.len() - 1]), (0, &starts[1..]));
        assert_eq!(ends.last(), Some(&all.len()));
        for pack in &packs[..packs.len() - 1] {
            let size = bytes(&all[pack.clone()]);
            let is_alone = pack.end == 500 || pack.len() == 1;
            assert!(is_alone || (LEAST..=MOST).contains(&size), "{pack:?}");
        }
        // Most of them end with the last object of a time.
        let together = ends.iter().filter(|&&end| end % 6 == 0).count();
        assert!(together * 2 > ends.len(), "{ends:?}");
        // Without times, names decide.
        all.iter_mut().for_each(|object| object.time = 0);
        let mean = bytes(&all) / split_by(&all, 1).len() as u64;
        assert!(mean > LEAST && mean < MOST, "{mean}");
    }

    /// Packs end at the same objects after a few others are removed.
    #[test]
    fn ends() {
        let mut all = objects(0..1000);
        all.iter_mut().for_each(|object| object.time = 0);
        let names = |objects: &[New]| -> Vec<Sum> {
            let packs = split_by(objects, 1).into_iter();
            packs.map(|pack| objects[pack.end - 1].sum).collect()
        };
        let (before, after) = (names(&all), names(&all[7..]));
        let same = after.iter().filter(|sum| before.contains(sum)).count();
        assert!(same + 3 > before.len(), "{same} of {}", before.len());
    }

    /// An image of any size has few enough packs.
    #[test]
    fn large_images() {
        let mut all = objects(0..2000);
        for (size, count) in [(LARGE * 3 / 4, 2000), (LARGE * 9, 1000)] {
            all.truncate(count);
            all.iter_mut().for_each(|object| object.size = size);
            let many: Vec<New> = (0..50).flat_map(|_| all.iter().copied()).collect();
            let packs = split(&[all.clone(), many]).len();
            assert!(packs > USED_MAX / 4 && packs <= USED_MAX, "{packs}");
        }
    }

    /// Packs are used as long as most of them is needed, those with the least excess first.
    #[test]
    fn choices() {
        let all = objects(0..1000);
        let pack = |range: Range<usize>| {
            let object = |new: &New| {
                let (size, data, ino) = (new.size, 0, 0);
                (new.sum, Object { size, data, ino })
            };
            let objects = all[range.clone()].iter().map(object).collect();
            let reference = tree::Pack {
                sha256: all[range.start].sum,
                total_size: 0,
            };
            Arc::new(Pack::new(reference, objects))
        };
        // The image has objects 0 to 499: 99, 95 and 90 of 100 objects of the packs, and all of
        // one.
        let packs = [400..501, 305..405, 110..210, 0..100].map(pack);
        let wanted = |range: Range<usize>| -> BTreeMap<Sum, u64> {
            let objects = all[range].iter();
            objects.map(|object| (object.sum, object.size)).collect()
        };
        let used = |wanted: &BTreeMap<Sum, u64>, packs: &[Arc<Pack>]| {
            let chosen = choose(wanted, packs);
            let spare = bytes(&all[..500]) / 50;
            let indices: BTreeSet<usize> = chosen.values().copied().collect();
            let rest: u64 = indices.iter().map(|&index| packs[index].bytes).sum();
            let needed: u64 = chosen.keys().map(|sum| wanted[sum]).sum();
            assert!(rest - needed <= spare);
            indices.into_iter().collect::<Vec<_>>()
        };
        assert_eq!(used(&wanted(0..500), &packs), [0, 1, 2, 3]);
        // The first pack is not used if another one also has its needed objects.
        assert_eq!(used(&wanted(0..490), &packs), [1, 2, 3]);
        // A pack is not used if less than half of it is needed.
        assert!(used(&wanted(0..40), &packs).is_empty());
    }
}
