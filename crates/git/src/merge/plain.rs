//! Merges path by path, without rename detection: as git's `resolve` strategy does it, and as JGit does it.
//!
//! Trees are walked in this process, and subtrees in which only one side changed are never opened; the contents of a
//! file that both sides changed are merged by `git merge-file`, so that they come out as git merges them.

use super::{ConflictPaths, Outcome, Refusal};
use crate::error::GitError;
use crate::object::{Entry, Mode, tree_bytes};
use crate::repos::Repository;
use camino::Utf8Path;
use gix::ObjectId;
use gix::objs::Kind;
use std::collections::BTreeMap;

/// Deeper trees are nobody's work.
const DEEPEST: usize = 512;
/// Of a history with more criss-crosses, only these count.
const MOST_BASES: usize = 32;
/// How far merge bases of merge bases are merged.
const MOST_DEPTH: usize = 16;

/// `git merge -s resolve`: all merge bases at once.
pub(super) fn resolve(
    repository: &Repository,
    handle: &gix::Repository,
    bases: &[ObjectId],
    ours: ObjectId,
    theirs: ObjectId,
) -> Result<Outcome, GitError> {
    let mut slots = Vec::new();
    for base in bases.iter().take(MOST_BASES) {
        slots.push(Slot::Directory(repository.commit(handle, *base)?.tree));
    }
    slots.extend([Slot::Directory(ours), Slot::Directory(theirs)]);
    Walk::new(repository, handle, Rules::Resolve).run(&slots)
}

/// JGit's recursive merge: several merge bases are first merged themselves, with conflicts left in.
pub(super) fn recursive(
    repository: &Repository,
    handle: &gix::Repository,
    bases: &[ObjectId],
    ours: ObjectId,
    theirs: ObjectId,
    content: bool,
) -> Result<Outcome, GitError> {
    let before = virtual_base(repository, handle, bases, 0)?;
    three_way(repository, handle, before, ours, theirs, content)
}

/// One merge of three trees by JGit's rules; without `before`, everything was added.
pub(super) fn three_way(
    repository: &Repository,
    handle: &gix::Repository,
    before: Option<ObjectId>,
    ours: ObjectId,
    theirs: ObjectId,
    content: bool,
) -> Result<Outcome, GitError> {
    let slots =
        [before.map_or(Slot::Absent, Slot::Directory), Slot::Directory(ours), Slot::Directory(theirs)];
    Walk::new(repository, handle, Rules::Jgit { content, keep_conflicts: false }).run(&slots)
}

/// The tree of what several commits would have as their common ancestor.
fn virtual_base(
    repository: &Repository,
    handle: &gix::Repository,
    bases: &[ObjectId],
    depth: usize,
) -> Result<Option<ObjectId>, GitError> {
    let Some((first, rest)) = bases.split_first() else { return Ok(None) };
    let mut tree = repository.commit(handle, *first)?.tree;
    if depth >= MOST_DEPTH {
        return Ok(Some(tree));
    }
    for (at, next) in rest.iter().take(MOST_BASES).enumerate() {
        let below =
            handle.merge_bases_many(*next, &bases[..=at]).map_err(|error| repository.damaged(error))?;
        let below: Vec<_> = below.into_iter().map(gix::Id::detach).collect();
        let before = virtual_base(repository, handle, &below, depth + 1)?;
        let other = repository.commit(handle, *next)?.tree;
        let slots =
            [before.map_or(Slot::Absent, Slot::Directory), Slot::Directory(tree), Slot::Directory(other)];
        let mut walk = Walk::new(repository, handle, Rules::Jgit { content: true, keep_conflicts: true });
        tree = walk.directory(&mut Vec::new(), 0, &slots)?.unwrap_or_else(|| empty_tree(handle));
    }
    Ok(Some(tree))
}

fn empty_tree(handle: &gix::Repository) -> ObjectId {
    ObjectId::empty_tree(handle.object_hash())
}

/// A file, symbolic link or submodule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct File {
    mode: Mode,
    id: ObjectId,
}

impl File {
    fn is_regular(self) -> bool {
        matches!(self.mode, Mode::File | Mode::Executable)
    }
}

/// What one tree has at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    Absent,
    /// One of the path's directories is a file in that tree.
    Blocked,
    File(File),
    Directory(ObjectId),
}

/// The same, seen by a file of that path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Absent,
    /// A directory is in the way, or a file is where a directory is needed.
    InTheWay,
    File(File),
}

impl From<Slot> for Stage {
    fn from(slot: Slot) -> Self {
        match slot {
            Slot::Absent => Self::Absent,
            Slot::Blocked | Slot::Directory(_) => Self::InTheWay,
            Slot::File(file) => Self::File(file),
        }
    }
}

impl Stage {
    fn file(self) -> Option<File> {
        if let Self::File(file) = self { Some(file) } else { None }
    }

    /// As two entries are compared: what is in the way equals nothing.
    fn same(self, other: Self) -> bool {
        self == other && self != Self::InTheWay
    }
}

#[derive(Debug, Clone, Copy)]
enum Rules {
    Resolve,
    Jgit {
        content: bool,
        /// For merge bases: there is always a result.
        keep_conflicts: bool,
    },
}

/// What becomes of one path.
enum Fate {
    Gone,
    Is(File),
    Conflict,
}

impl From<Option<File>> for Fate {
    fn from(file: Option<File>) -> Self {
        file.map_or(Self::Gone, Self::Is)
    }
}

/// What `git merge-file` made of three contents.
enum Content {
    Clean(ObjectId),
    Marked(ObjectId),
    Binary,
}

struct Walk<'a> {
    repository: &'a Repository,
    handle: &'a gix::Repository,
    rules: Rules,
    conflicts: ConflictPaths,
}

impl<'a> Walk<'a> {
    fn new(repository: &'a Repository, handle: &'a gix::Repository, rules: Rules) -> Self {
        Self { repository, handle, rules, conflicts: ConflictPaths::default() }
    }

    fn run(mut self, slots: &[Slot]) -> Result<Outcome, GitError> {
        let tree = self.directory(&mut Vec::new(), 0, slots)?.unwrap_or_else(|| empty_tree(self.handle));
        Ok(if self.conflicts.total > 0 {
            Err(Refusal::Conflict(self.conflicts))
        } else {
            // The empty tree is in no repository until it is written.
            if tree == empty_tree(self.handle) {
                self.repository.write(self.handle, Kind::Tree, b"")?;
            }
            Ok(tree)
        })
    }

    /// Merges one directory; the slots are those of the bases, ours, theirs. `None`: nothing is left of it.
    fn directory(
        &mut self,
        path: &mut Vec<u8>,
        depth: usize,
        slots: &[Slot],
    ) -> Result<Option<ObjectId>, GitError> {
        if let Some(tree) = unchanged(slots) {
            return Ok(Some(tree));
        }
        if depth > DEEPEST {
            return Err(self.repository.damaged(format!("directories are nested more than {DEEPEST} deep")));
        }
        let none = slots.iter().map(|slot| if *slot == Slot::Blocked { Slot::Blocked } else { Slot::Absent });
        let none: Vec<Slot> = none.collect();
        let mut names: BTreeMap<Vec<u8>, Vec<Slot>> = BTreeMap::new();
        for (at, slot) in slots.iter().enumerate() {
            let Slot::Directory(tree) = slot else { continue };
            for entry in self.repository.entries(self.handle, *tree)? {
                let slot = match entry.mode {
                    Mode::Directory => Slot::Directory(entry.id),
                    mode => Slot::File(File { mode, id: entry.id }),
                };
                names.entry(entry.name).or_insert_with(|| none.clone())[at] = slot;
            }
        }
        let mut entries = Vec::new();
        for (name, slots) in names {
            let length = path.len();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(&name);
            entries.extend(self.name(path, depth, &slots)?.map(|(mode, id)| Entry { name, mode, id }));
            path.truncate(length);
        }
        if entries.is_empty() {
            return Ok(None);
        }
        self.repository.write(self.handle, Kind::Tree, &tree_bytes(entries)).map(Some)
    }

    /// Merges what stands under one name: a file, a directory, or both.
    fn name(
        &mut self,
        path: &mut Vec<u8>,
        depth: usize,
        slots: &[Slot],
    ) -> Result<Option<(Mode, ObjectId)>, GitError> {
        let mut file = None;
        if slots.iter().any(|slot| matches!(slot, Slot::File(_))) {
            let stages: Vec<Stage> = slots.iter().map(|slot| Stage::from(*slot)).collect();
            match self.file(&stages)? {
                Fate::Gone => {}
                Fate::Is(is) => file = Some((is.mode, is.id)),
                Fate::Conflict => self.conflicts.push(path),
            }
        }
        if !slots.iter().any(|slot| matches!(slot, Slot::Directory(_))) {
            return Ok(file);
        }
        let below =
            slots.iter().map(|slot| if matches!(slot, Slot::File(_)) { Slot::Blocked } else { *slot });
        let below: Vec<Slot> = below.collect();
        let directory = self.directory(path, depth + 1, &below)?.map(|id| (Mode::Directory, id));
        if file.is_some() && directory.is_some() && !self.keeps_conflicts() {
            self.conflicts.push(path);
        }
        Ok(directory.or(file))
    }

    fn keeps_conflicts(&self) -> bool {
        matches!(self.rules, Rules::Jgit { keep_conflicts: true, .. })
    }

    fn file(&self, stages: &[Stage]) -> Result<Fate, GitError> {
        let (bases, sides) = stages.split_at(stages.len() - 2);
        match self.rules {
            Rules::Resolve => self.resolve(bases, sides[0], sides[1]),
            Rules::Jgit { content, keep_conflicts } => {
                let base = bases.first().and_then(|stage| stage.file());
                self.jgit(base, sides[0].file(), sides[1].file(), content, keep_conflicts)
            }
        }
    }

    /// `git read-tree -m --aggressive` on any number of bases (its documentation numbers the cases), and then
    /// `git merge-one-file` on what that leaves open.
    fn resolve(&self, bases: &[Stage], ours: Stage, theirs: Stage) -> Result<Fate, GitError> {
        let theirs_in_the_way = theirs == Stage::InTheWay;
        let ours_in_the_way = ours == Stage::InTheWay;
        let plain = |stage: Stage| if stage == Stage::InTheWay { Stage::Absent } else { stage };
        let (ours, theirs) = (plain(ours), plain(theirs));
        let ours_known = bases.iter().any(|base| base.same(ours));
        let theirs_known = bases.iter().any(|base| base.same(theirs));
        let (our_file, their_file) = (ours.file(), theirs.file());
        // Only they changed it.
        if their_file.is_some() && !ours_in_the_way && ours_known && !theirs_known {
            return Ok(their_file.into());
        }
        if our_file.is_some() {
            if ours.same(theirs) || (!theirs_in_the_way && theirs_known && !ours_known) {
                return Ok(our_file.into());
            }
        } else if their_file.is_none() {
            return Ok(Fate::Gone);
        }
        // Deleted on one side, left alone on the other.
        if (our_file.is_none() && theirs_known) || (their_file.is_none() && ours_known) {
            return Ok(Fate::Gone);
        }
        let base = if ours_known && theirs_known { None } else { bases.iter().find_map(|base| base.file()) };
        self.one_file(base, our_file, their_file)
    }

    /// What `git merge-one-file` decides.
    fn one_file(
        &self,
        base: Option<File>,
        ours: Option<File>,
        theirs: Option<File>,
    ) -> Result<Fate, GitError> {
        match (base, ours, theirs) {
            (None, one, None) | (None, None, one) => Ok(one.into()),
            (Some(base), None, Some(one)) | (Some(base), Some(one), None) if base == one => Ok(Fate::Gone),
            (None, Some(ours), Some(theirs)) if ours == theirs => Ok(Fate::Is(ours)),
            (Some(base), Some(ours), Some(theirs)) => {
                // A mode that one side changed is a conflict to it, too, once contents must be merged.
                if [base, ours, theirs].iter().any(|file| !file.is_regular()) || ours.mode != theirs.mode {
                    return Ok(Fate::Conflict);
                }
                Ok(match self.content(base.id, ours.id, theirs.id)? {
                    Content::Clean(id) => Fate::Is(File { mode: ours.mode, id }),
                    Content::Marked(_) | Content::Binary => Fate::Conflict,
                })
            }
            _ => Ok(Fate::Conflict),
        }
    }

    fn jgit(
        &self,
        base: Option<File>,
        ours: Option<File>,
        theirs: Option<File>,
        content: bool,
        keep_conflicts: bool,
    ) -> Result<Fate, GitError> {
        if ours == theirs || base == theirs {
            return Ok(ours.into());
        }
        if base == ours {
            return Ok(theirs.into());
        }
        let kept = |file: Option<File>| if keep_conflicts { file.into() } else { Fate::Conflict };
        let (Some(one), Some(two)) = (ours, theirs) else { return Ok(kept(base.or(ours).or(theirs))) };
        let was = |file: File| base.is_some_and(|base| base.mode == file.mode);
        let mode = match (one.mode == two.mode, was(one), was(two)) {
            (true, ..) | (false, false, true) => one.mode,
            (false, true, _) => two.mode,
            (false, false, false) => return Ok(kept(base.or(ours))),
        };
        if one.id == two.id {
            return Ok(Fate::Is(File { mode, id: one.id }));
        }
        let base = match base {
            Some(base) if base.id == one.id => return Ok(Fate::Is(File { mode, id: two.id })),
            Some(base) if base.id == two.id => return Ok(Fate::Is(File { mode, id: one.id })),
            Some(base) if content && [base, one, two].into_iter().all(File::is_regular) => base,
            base => return Ok(kept(base.or(ours))),
        };
        Ok(match self.content(base.id, one.id, two.id)? {
            Content::Clean(id) => Fate::Is(File { mode, id }),
            Content::Marked(id) => kept(Some(File { mode, id })),
            Content::Binary => kept(Some(base)),
        })
    }

    fn content(&self, base: ObjectId, ours: ObjectId, theirs: ObjectId) -> Result<Content, GitError> {
        let dir = tempfile::tempdir()?;
        let dir = Utf8Path::from_path(dir.path()).ok_or_else(|| {
            std::io::Error::other(
                "the directory for temporary files has a name that is not UTF-8; set TMPDIR",
            )
        })?;
        for (name, id) in [("ours", ours), ("base", base), ("theirs", theirs)] {
            fs_err::write(dir.join(name), self.repository.bytes(self.handle, id, Kind::Blob, "file")?)?;
        }
        let path = |name: &str| dir.join(name).into_string();
        let (ours, base, theirs) = (path("ours"), path("base"), path("theirs"));
        let arguments =
            ["merge-file", "-p", "-q", "-L", "ours", "-L", "base", "-L", "theirs", &ours, &base, &theirs];
        let done = self.repository.git("merging contents in", &arguments, b"")?;
        let write = || self.repository.write(self.handle, Kind::Blob, &done.out);
        match done.code {
            Some(0) => Ok(Content::Clean(write()?)),
            Some(1..=127) => Ok(Content::Marked(write()?)),
            Some(255) if done.err.contains("binary") || done.err.is_empty() => Ok(Content::Binary),
            _ => Err(self.repository.failed("merge the contents of a file", &done.err)),
        }
    }
}

/// The directory's tree where only one side, or neither, has changed it.
fn unchanged(slots: &[Slot]) -> Option<ObjectId> {
    let (bases, sides) = slots.split_at(slots.len() - 2);
    let (Slot::Directory(ours), Slot::Directory(theirs)) = (sides[0], sides[1]) else { return None };
    let all = |tree| !bases.is_empty() && bases.iter().all(|base| *base == Slot::Directory(tree));
    if ours == theirs || all(theirs) {
        Some(ours)
    } else if all(ours) {
        Some(theirs)
    } else {
        None
    }
}
