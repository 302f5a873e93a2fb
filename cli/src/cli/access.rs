//! The surface of `windlass users`, `windlass roles` and `windlass tokens`.

use super::Target;
use crate::{commands::complete, duration};
use clap::{Args, Subcommand, ValueEnum, ValueHint};
use clap_complete::ArgValueCompleter;
use std::{path::PathBuf, time::Duration};
use windlass_types::{self as types, OperationName, RoleName, UserName};

#[derive(Debug, Subcommand)]
pub enum Users {
    /// Add a user. Tokens are made with `windlass tokens create NAME --user USER`.
    #[command(after_help = "\
Examples:
  windlass users add jane.doe --role operator
  windlass users add night-shift@example.org --role night-shift")]
    Add {
        /// Name of the user: letters, digits, `.`, `_`, `-` and `@`.
        name: UserName,
        /// What the user may do: `viewer`, `operator`, `admin`, or a role of your own.
        #[arg(long)]
        role: RoleName,
    },
    /// List users.
    #[command(visible_alias = "ls", after_help = "Examples:\n  windlass users list")]
    List,
    /// Show a user.
    #[command(after_help = "Examples:\n  windlass users show jane.doe")]
    Show {
        #[command(flatten)]
        user: UserArg,
    },
    /// Give a user another role, from the next request on.
    #[command(after_help = "Examples:\n  windlass users set-role jane.doe viewer")]
    SetRole {
        #[command(flatten)]
        user: UserArg,
        /// The role.
        role: RoleName,
    },
    /// Let no token of a user count, until the user is enabled.
    #[command(after_help = "Examples:\n  windlass users disable jane.doe")]
    Disable {
        #[command(flatten)]
        user: UserArg,
    },
    /// Let the tokens of a user count again.
    #[command(after_help = "Examples:\n  windlass users enable jane.doe")]
    Enable {
        #[command(flatten)]
        user: UserArg,
    },
    /// Remove a user and all the user's tokens.
    #[command(visible_alias = "rm", after_help = "Examples:\n  windlass users remove jane.doe")]
    Remove {
        #[command(flatten)]
        user: UserArg,
    },
}

/// A user.
#[derive(Debug, Args)]
pub struct UserArg {
    /// Name of the user.
    #[arg(value_name = "NAME")]
    pub name: UserName,
}

#[derive(Debug, Subcommand)]
pub enum Roles {
    /// List roles, with those that are always there.
    #[command(visible_alias = "ls", after_help = "Examples:\n  windlass roles list")]
    List,
    /// Show the rules of a role, as a file for `windlass roles set`.
    #[command(
        after_help = "Examples:\n  windlass roles show operator\n  windlass roles show night-shift > role.toml"
    )]
    Show {
        #[command(flatten)]
        role: RoleArg,
    },
    /// Make a role, or give one other rules, from the next request on.
    ///
    /// The file holds a list of `[[rules]]`. Each may have `operations` (globs), the highest `effect` that
    /// these may have (`read` unless told), `permissions`, and a `target` (`on`, `labels`, `flags`, `facts`,
    /// `where`), without which it holds on all nodes. A role allows what any of its rules allows, and
    /// nothing else. `docs/access.md` lists the permissions.
    #[command(after_help = "Examples:\n  windlass roles set night-shift role.toml")]
    Set {
        #[command(flatten)]
        role: RoleArg,
        /// The rules, TOML; `-` for stdin.
        #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
        file: PathBuf,
    },
    /// Remove a role that nobody has.
    #[command(visible_alias = "rm", after_help = "Examples:\n  windlass roles remove night-shift")]
    Remove {
        #[command(flatten)]
        role: RoleArg,
    },
    /// Tell whether a role lets an operation run on some nodes, and why. Ends with 4 if not.
    #[command(after_help = "\
Examples:
  windlass roles check night-shift zfs.pool.list --on n1
  windlass roles check night-shift zfs.pool.create --effect destroy --all")]
    Check(Box<Check>),
}

/// A role.
#[derive(Debug, Args)]
pub struct RoleArg {
    /// Name of the role.
    #[arg(value_name = "NAME")]
    pub name: RoleName,
}

/// What to check.
#[derive(Debug, Args)]
pub struct Check {
    #[command(flatten)]
    pub role: RoleArg,
    /// Name of the operation.
    #[arg(value_name = "OPERATION", add = ArgValueCompleter::new(complete::operations))]
    pub operation: OperationName,
    /// As if the operation had this effect; its own unless told.
    #[arg(long, value_enum)]
    pub effect: Option<Effect>,
    // Last, because its heading holds for all that follows.
    #[command(flatten)]
    pub target: Target,
}

/// Effects of operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Effect {
    /// Only looks.
    Read,
    /// Changes something that can be changed back.
    Change,
    /// May lose data.
    Destroy,
}

impl From<Effect> for types::Effect {
    fn from(effect: Effect) -> Self {
        match effect {
            Effect::Read => types::Effect::Read,
            Effect::Change => types::Effect::Change,
            Effect::Destroy => types::Effect::Destroy,
        }
    }
}

#[derive(Debug, Subcommand)]
pub enum Tokens {
    /// List tokens, without their secrets.
    #[command(visible_alias = "ls", after_help = "Examples:\n  windlass tokens list")]
    List,
    /// Make a token and print it. It is shown this once only.
    #[command(after_help = "\
Examples:
  windlass tokens create night-shift --role operator
  windlass tokens create ci --role viewer --ttl 30d > token
  windlass tokens create laptop --user jane.doe")]
    Create {
        /// What it is for. Where it belongs to no user, the audit log names it so.
        name: String,
        /// What it may do, for one that belongs to no user: `viewer`, `operator`, `admin`, or a role of your own.
        #[arg(long, required_unless_present = "user", conflicts_with = "user")]
        role: Option<RoleName>,
        /// Whose it is. It may do what the user may, for as long as the user may.
        #[arg(long, value_name = "USER")]
        user: Option<UserName>,
        /// How long it is good for; for ever unless told.
        #[arg(long, value_parser = duration::parse, value_name = "DURATION")]
        ttl: Option<Duration>,
    },
    /// Delete a token: it is no good from now on.
    #[command(visible_alias = "rm", after_help = "Examples:\n  windlass tokens delete ID")]
    Delete {
        /// Id of the token.
        id: String,
    },
}
