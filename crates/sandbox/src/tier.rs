//! How strong the isolation is: the tier of a sandbox and what this machine can give.
//! A tier is a statement about walls that really stand; it must never be raised by a wish.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::policy::Surroundings;

/// The strength of a sandbox. A smaller number is stronger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// Namespaces, control groups (memory and pids), Landlock and seccomp.
    One,
    /// Namespaces and seccomp, with either the control groups or Landlock missing. Without control
    /// groups memory is bounded by a watchdog and the number of processes by a resource limit.
    Two,
    /// Seccomp and only one more wall: either Landlock without namespaces (the payload sees the
    /// host's process table and has no writable place), or namespaces with neither control groups
    /// nor Landlock. Too weak for a stranger's code.
    Three,
}

impl Tier {
    /// The tier's number, 1 (strongest) to 3.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::One => 1,
            Self::Two => 2,
            Self::Three => 3,
        }
    }

    /// The tier with this number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::One),
            2 => Some(Self::Two),
            3 => Some(Self::Three),
            _ => None,
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "tier {}", self.number())
    }
}

/// The walls that one sandbox stands behind, besides seccomp, which always stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Walls {
    pub(crate) namespaces: bool,
    /// Whether control groups are to be used at all.
    pub(crate) control_groups: bool,
    pub(crate) landlock: bool,
}

/// What this machine can give a sandbox, and why not more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// User, mount, pid, network, ipc, uts and cgroup namespaces can be made and used.
    pub namespaces: bool,
    /// Memory and the number of processes can be limited by control groups.
    pub control_groups: bool,
    /// The kernel's Landlock ABI; 0 where there is no Landlock.
    pub landlock_abi: i32,
    /// How a sandbox is frozen here: `cgroup v2`, `cgroup v1` or `signals`.
    pub freezer: String,
    /// One line for each thing that is missing: what, and why.
    pub reasons: Vec<String>,
}

impl Capabilities {
    /// The strongest tier that can be had here; `None` where not even tier 3 can.
    #[must_use]
    pub fn tier(&self) -> Option<Tier> {
        tier_of(self.namespaces, self.control_groups, self.landlock_abi > 0)
    }

    /// What stands between a payload of this tier and the machine here, besides the system calls;
    /// `None` where that tier cannot be had.
    #[must_use]
    pub fn surroundings(&self, tier: Tier) -> Option<Surroundings> {
        let (_, walls) = self.walls(Some(tier))?;
        Some(Surroundings {
            namespaces: walls.namespaces,
            counted_memory: walls.control_groups && self.control_groups,
        })
    }

    /// The walls for a sandbox here: the strongest, or those of the tier that is asked for. `None`
    /// where that tier cannot be had.
    pub(crate) fn walls(&self, forced: Option<Tier>) -> Option<(Tier, Walls)> {
        let landlock = self.landlock_abi > 0;
        let strongest = Walls {
            namespaces: self.namespaces,
            control_groups: self.namespaces,
            landlock,
        };
        let (tier, walls) = match forced {
            None => (self.tier()?, strongest),
            Some(Tier::One) => (self.tier()?, strongest),
            Some(Tier::Two) => {
                let walls = Walls {
                    control_groups: self.control_groups && !landlock,
                    ..strongest
                };
                (
                    tier_of(self.namespaces, walls.control_groups, landlock)?,
                    walls,
                )
            }
            Some(Tier::Three) => {
                let walls = Walls {
                    namespaces: self.namespaces && !landlock,
                    control_groups: false,
                    landlock,
                };
                (tier_of(walls.namespaces, false, landlock)?, walls)
            }
        };
        forced
            .is_none_or(|wanted| wanted == tier)
            .then_some((tier, walls))
    }
}

impl Capabilities {
    /// The walls of a container here. An engine that cannot filter system calls, or cannot limit
    /// memory and processes, makes none; without Landlock, or when tier 2 is asked for, the
    /// engine's walls stand alone.
    pub(crate) fn container_walls(&self, forced: Option<Tier>) -> Option<(Tier, Walls)> {
        if !self.namespaces || !self.control_groups {
            return None;
        }
        let walls = Walls {
            namespaces: true,
            control_groups: true,
            landlock: self.landlock_abi > 0 && forced != Some(Tier::Two),
        };
        let tier = tier_of(true, true, walls.landlock)?;
        forced
            .is_none_or(|wanted| wanted == tier)
            .then_some((tier, walls))
    }
}

fn tier_of(namespaces: bool, control_groups: bool, landlock: bool) -> Option<Tier> {
    match (namespaces, control_groups, landlock) {
        (true, true, true) => Some(Tier::One),
        (true, true, false) | (true, false, true) => Some(Tier::Two),
        (true, false, false) | (false, _, true) => Some(Tier::Three),
        (false, _, false) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{Capabilities, Tier, tier_of};

    fn machine(namespaces: bool, control_groups: bool, landlock_abi: i32) -> Capabilities {
        Capabilities {
            namespaces,
            control_groups,
            landlock_abi,
            freezer: "signals".into(),
            reasons: Vec::new(),
        }
    }

    #[test]
    fn every_missing_wall_lowers_the_tier() {
        assert_eq!(tier_of(true, true, true), Some(Tier::One));
        assert_eq!(tier_of(true, false, true), Some(Tier::Two));
        assert_eq!(tier_of(true, true, false), Some(Tier::Two));
        assert_eq!(tier_of(true, false, false), Some(Tier::Three));
        assert_eq!(tier_of(false, true, true), Some(Tier::Three));
        assert_eq!(tier_of(false, true, false), None);
    }

    #[test]
    fn a_container_has_landlock_or_is_of_tier_two_and_there_is_none_without_limits() {
        let tier = |machine: &Capabilities, forced| {
            let found = machine.container_walls(forced);
            found.map(|(tier, walls)| (tier, walls.landlock))
        };
        let strong = machine(true, true, 7);
        assert_eq!(tier(&strong, None), Some((Tier::One, true)));
        assert_eq!(tier(&strong, Some(Tier::Two)), Some((Tier::Two, false)));
        assert_eq!(tier(&strong, Some(Tier::Three)), None);
        let old = machine(true, true, 0);
        assert_eq!(tier(&old, None), Some((Tier::Two, false)));
        assert_eq!(tier(&old, Some(Tier::One)), None);
        for weak in [machine(false, true, 7), machine(true, false, 7)] {
            assert_eq!(tier(&weak, None), None);
        }
    }

    #[test]
    fn a_tier_can_be_lowered_but_not_raised() {
        let strong = machine(true, true, 7);
        for tier in [Tier::One, Tier::Two, Tier::Three] {
            assert_eq!(strong.walls(Some(tier)).map(|found| found.0), Some(tier));
        }
        let weak = machine(false, true, 7);
        assert_eq!(weak.walls(Some(Tier::One)), None);
        assert_eq!(weak.walls(Some(Tier::Two)), None);
        assert_eq!(weak.walls(None).map(|found| found.0), Some(Tier::Three));
    }
}
