//! The kinds of resources, compiled.

use bulkhead_sdk::enforcement::Outline;
use bulkhead_sdk::{Context, Error, Result, bail};
use regex::Regex;

use super::{Subject, Want, paths};
use crate::config::{
    self, Accept, FileState, IfMissing, KernelModule, LineState, Mode, ModuleState, Owner,
    Resource, Symlink, Unit,
};
use crate::edit::Edit;
use crate::expression::{Template, Templates};
use crate::pattern;

/// What a resource says.
#[derive(Debug)]
pub(crate) enum Kind {
    Whole(Whole),
    Edit(EditFile),
    Permissions(PermissionRule),
    Directory(PermissionRule),
    Symlink(Symlink),
    Absent(Absence),
    Sysctl(SysctlRule),
    Module(KernelModule),
    Unit(Unit),
    Lookout(Lookout),
}

/// A whole file.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) path: String,
    pub(crate) content: Content,
    pub(crate) permissions: PermissionRule,
    pub(crate) secret: bool,
    pub(crate) present: bool,
}

#[derive(Debug)]
pub(crate) enum Content {
    Any,
    Text(String),
    Template(Template),
}

/// A part of a file.
#[derive(Debug)]
pub(crate) struct EditFile {
    pub(crate) path: String,
    pub(crate) edit: Edit,
    pub(crate) if_missing: IfMissing,
    pub(crate) secret: bool,
    /// Settings in different formats do not go together.
    pub(crate) format: Option<config::Format>,
}

/// Who may use what is at a path.
#[derive(Debug, Clone)]
pub(crate) struct PermissionRule {
    pub(crate) path: String,
    pub(crate) mode: Option<u32>,
    pub(crate) max_mode: Option<u32>,
    pub(crate) owner: Option<Owner>,
    pub(crate) group: Option<Owner>,
    pub(crate) want: Want,
}

/// What should not be there.
#[derive(Debug)]
pub(crate) struct Absence {
    path: String,
    recursive: bool,
    pub(crate) wants: [Want; 2],
}

/// A kernel setting.
#[derive(Debug)]
pub(crate) struct SysctlRule {
    pub(crate) name: String,
    pub(crate) value: String,
    pub(crate) accept: Option<Accept>,
    pub(crate) now: bool,
    pub(crate) persist: bool,
    pub(crate) if_missing: IfMissing,
}

/// What lines files must have.
#[derive(Debug)]
pub(crate) struct Lookout {
    paths: Vec<String>,
    pub(crate) some_line: Option<Regex>,
    pub(crate) no_line: Option<Regex>,
    pub(crate) except: Option<Regex>,
    pub(crate) if_missing: IfMissing,
    pub(crate) wants: Vec<Want>,
}

impl Kind {
    pub(super) fn new(resource: &Resource, templates: &mut Templates) -> Result<Self> {
        let mut kinds = Vec::new();
        if let Some(file) = &resource.file {
            kinds.push(whole(file, templates).map(Kind::Whole).at("file")?);
        }
        if let Some(line) = &resource.line {
            kinds.push(edit_line(line).map(Kind::Edit).at("line")?);
        }
        if let Some(setting) = &resource.setting {
            kinds.push(edit_setting(setting).map(Kind::Edit).at("setting")?);
        }
        if let Some(it) = &resource.permissions {
            kinds.push(permissions(it).map(Kind::Permissions).at("permissions")?);
        }
        if let Some(it) = &resource.directory {
            paths::check(&it.path).at("path").at("directory")?;
            kinds.push(Kind::Directory(PermissionRule {
                path: it.path.clone(),
                mode: it.mode.map(|mode| mode.0),
                max_mode: None,
                owner: it.owner.clone(),
                group: it.group.clone(),
                want: None,
            }));
        }
        if let Some(it) = &resource.symlink {
            paths::check(&it.path).at("path").at("symlink")?;
            if it.target.is_empty() || it.target.contains('\0') {
                return Err(Error::new("is empty").at("target").at("symlink"));
            }
            kinds.push(Kind::Symlink(it.clone()));
        }
        if let Some(it) = &resource.absent {
            kinds.push(absence(it).map(Kind::Absent).at("absent")?);
        }
        if let Some(it) = &resource.sysctl {
            kinds.push(sysctl(it).map(Kind::Sysctl).at("sysctl")?);
        }
        if let Some(it) = &resource.kernel_module {
            let odd = |it: char| !it.is_ascii_alphanumeric() && it != '_' && it != '-';
            let fits = matches!(it.name.len(), 1..=64) && !it.name.starts_with('-');
            if !fits || it.name.contains(odd) {
                let message = format!("{:?} is no name of a module", it.name);
                return Err(Error::new(message).at("name").at("kernelModule"));
            }
            kinds.push(Kind::Module(it.clone()));
        }
        if let Some(it) = &resource.unit {
            check_unit_rule(it).at("unit")?;
            kinds.push(Kind::Unit(it.clone()));
        }
        if let Some(it) = &resource.check {
            kinds.push(lookout(it).map(Kind::Lookout).at("check")?);
        }
        match (kinds.pop(), kinds.is_empty()) {
            (Some(kind), true) => Ok(kind),
            _ => bail!(
                "a resource is exactly one of `file`, `line`, `setting`, `permissions`, `directory`, \
                 `symlink`, `absent`, `sysctl`, `kernelModule`, `unit`, `check`"
            ),
        }
    }

    /// What it is about, given its index among the items.
    pub(super) fn subject(&self, index: usize) -> Subject {
        match (self.path(), self) {
            (Some(path), _) => Subject::Path(path.to_owned()),
            (None, Kind::Sysctl(it)) => Subject::Sysctl(it.name.clone()),
            (None, Kind::Module(it)) => Subject::Module(it.name.replace('-', "_")),
            (None, Kind::Unit(it)) => Subject::Unit(it.name.clone()),
            (None, _) => Subject::Item(index),
        }
    }

    /// The one path that it is about.
    pub(super) fn path(&self) -> Option<&str> {
        match self {
            Kind::Whole(it) => Some(&it.path),
            Kind::Edit(it) => Some(&it.path),
            Kind::Directory(it) => Some(&it.path),
            Kind::Symlink(it) => Some(&it.path),
            Kind::Permissions(it) if !paths::is_glob(&it.path) => Some(&it.path),
            _ => None,
        }
    }

    /// What it says of permissions.
    pub(crate) fn permissions(&self) -> Option<&PermissionRule> {
        match self {
            Kind::Whole(it) => Some(&it.permissions),
            Kind::Permissions(it) | Kind::Directory(it) => Some(it),
            _ => None,
        }
    }

    pub(super) fn title(&self) -> String {
        match self {
            Kind::Whole(it) if it.present => format!("{} is as declared", it.path),
            Kind::Whole(it) => format!("{} is not there", it.path),
            Kind::Edit(it) => format!("{} has what is declared", it.path),
            Kind::Permissions(it) => format!("{} belongs to whom it should", it.path),
            Kind::Directory(it) => format!("{} is a folder", it.path),
            Kind::Symlink(it) => format!("{} points to {}", it.path, it.target),
            Kind::Absent(it) => format!("{} is not there", it.path),
            Kind::Sysctl(it) => format!("{} is {}", it.name, it.value),
            Kind::Module(it) => match it.state {
                ModuleState::Loaded => format!("the kernel module {} is loaded", it.name),
                ModuleState::Blacklisted => {
                    format!("the kernel module {} is never loaded", it.name)
                }
            },
            Kind::Unit(it) => format!("{} is in the state declared", it.name),
            Kind::Lookout(it) => format!("{} has the lines that it should", it.paths.join(", ")),
        }
    }

    pub(super) fn want(&mut self, outline: &mut Outline) {
        match self {
            Kind::Whole(it) if matches!(it.content, Content::Any) || !it.present => {
                outline.want_entry(&it.path);
            }
            Kind::Whole(Whole { path, .. }) | Kind::Edit(EditFile { path, .. }) => {
                outline.want_file(path);
            }
            Kind::Permissions(it) | Kind::Directory(it) => {
                it.want = Some(outline.want_entry(&it.path));
            }
            Kind::Symlink(it) => {
                outline.want_entry(&it.path);
            }
            Kind::Absent(it) => {
                let below = it
                    .recursive
                    .then(|| outline.want_entry(&format!("{}/**/*", it.path)));
                it.wants = [Some(outline.want_entry(&it.path)), below];
            }
            Kind::Sysctl(it) => outline.want_sysctl(&it.name),
            Kind::Module(it) => outline.want_module(&it.name),
            Kind::Unit(it) => outline.want_unit(&it.name),
            Kind::Lookout(it) => {
                it.wants = it
                    .paths
                    .iter()
                    .map(|path| Some(outline.want_file(path)))
                    .collect();
            }
        }
    }
}

fn whole(file: &config::File, templates: &mut Templates) -> Result<Whole> {
    paths::check(&file.path).at("path")?;
    let present = file.state == FileState::Present;
    let content = match (&file.content, &file.template) {
        (Some(_), Some(_)) => bail!("it is either `content` or `template`"),
        (None, None) => Content::Any,
        (Some(text), None) => Content::Text(text.clone()),
        (None, Some(source)) => Content::Template(templates.template(source).at("template")?),
    };
    let bare = file.mode.is_none() && file.owner.is_none() && file.group.is_none();
    let says_more = !bare || !matches!(content, Content::Any);
    if !present && says_more {
        bail!("with `state: absent` there is nothing else to say");
    }
    if file
        .content
        .as_ref()
        .is_some_and(|text| text.len() > 4 << 20)
    {
        return Err(Error::new("is longer than 4 MiB").at("content"));
    }
    Ok(Whole {
        path: file.path.clone(),
        content,
        permissions: PermissionRule {
            path: file.path.clone(),
            mode: file.mode.map(|mode| mode.0),
            max_mode: None,
            owner: file.owner.clone(),
            group: file.group.clone(),
            want: None,
        },
        secret: file.secret,
        present,
    })
}

fn edit_line(line: &config::Line) -> Result<EditFile> {
    paths::check(&line.path).at("path")?;
    if line.state == LineState::Absent && line.if_missing == IfMissing::Create {
        let message = "a file is not made for a line that should be absent";
        return Err(Error::new(message).at("ifMissing"));
    }
    Ok(EditFile {
        path: line.path.clone(),
        edit: Edit::line(line)?,
        if_missing: line.if_missing,
        secret: false,
        format: None,
    })
}

fn edit_setting(setting: &config::Setting) -> Result<EditFile> {
    paths::check(&setting.path).at("path")?;
    Ok(EditFile {
        path: setting.path.clone(),
        edit: Edit::setting(setting)?,
        if_missing: setting.if_missing,
        secret: setting.secret,
        format: Some(setting.format),
    })
}

fn permissions(it: &config::Permissions) -> Result<PermissionRule> {
    paths::check_glob(&it.path).at("path")?;
    if it.mode.is_some() && it.max_mode.is_some() {
        bail!("it is either `mode` or `maxMode`");
    }
    let number = |mode: Option<Mode>| mode.map(|mode| mode.0);
    let rule = PermissionRule {
        path: it.path.clone(),
        mode: number(it.mode),
        max_mode: number(it.max_mode),
        owner: it.owner.clone(),
        group: it.group.clone(),
        want: None,
    };
    let nothing = rule.mode.or(rule.max_mode).is_none();
    if nothing && rule.owner.is_none() && rule.group.is_none() {
        bail!("give at least one of `mode`, `maxMode`, `owner`, `group`");
    }
    Ok(rule)
}

fn absence(it: &config::Absent) -> Result<Absence> {
    paths::check_glob(&it.path).at("path")?;
    let first = it.path.trim_start_matches('/').split('/').next();
    let shallow = !it.path.trim_start_matches('/').contains('/');
    if shallow || first.is_some_and(paths::is_glob) || it.path.split('/').any(|part| part == "**") {
        let message = "must name a folder below the root, and something in it, without `**`";
        return Err(Error::new(message).at("path"));
    }
    Ok(Absence {
        path: it.path.clone(),
        recursive: it.recursive,
        wants: [None, None],
    })
}

fn sysctl(it: &config::Sysctl) -> Result<SysctlRule> {
    let name = sysctl_name(&it.name);
    let odd = |it: char| !it.is_ascii_graphic() || matches!(it, '*' | '?' | '[' | '=');
    let parts: Vec<&str> = name.split('.').collect();
    let wrong = parts
        .iter()
        .any(|part| part.is_empty() || part.starts_with('/'));
    if wrong || parts.len() < 2 || name.contains(odd) {
        let message = format!("{:?} is no name of a kernel setting", it.name);
        return Err(Error::new(message).at("name"));
    }
    let value = it.value.to_string();
    if value.contains(['\n', '\r', '\0']) {
        return Err(Error::new("is not one line").at("value"));
    }
    if !it.now && !it.persist {
        bail!("with neither `now` nor `persist` there is nothing to do");
    }
    if it.if_missing == IfMissing::Create {
        return Err(Error::new("a kernel setting cannot be made").at("ifMissing"));
    }
    Ok(SysctlRule {
        name,
        value,
        accept: it.accept.clone(),
        now: it.now,
        persist: it.persist,
        if_missing: it.if_missing,
    })
}

/// With `.` between the parts. As sysctl(8) has it, the first separator of a name says which is which.
fn sysctl_name(name: &str) -> String {
    let swap = |it| match it {
        '/' => '.',
        '.' => '/',
        other => other,
    };
    match name.find(['.', '/']).map(|at| name[at..].starts_with('/')) {
        Some(true) => name.chars().map(swap).collect(),
        _ => name.to_owned(),
    }
}

pub(super) fn check_unit(name: &str) -> Result<()> {
    const KINDS: &[&str] = &[
        "automount",
        "mount",
        "path",
        "service",
        "slice",
        "socket",
        "swap",
        "timer",
    ];
    let known = name
        .rsplit_once('.')
        .is_some_and(|(stem, kind)| !stem.is_empty() && KINDS.contains(&kind));
    let fits =
        |it: char| it.is_ascii_alphanumeric() || matches!(it, ':' | '-' | '_' | '.' | '\\' | '@');
    if !known || !name.chars().all(fits) || name.starts_with('-') || name.len() > 255 {
        bail!("{name:?} is no full name of a unit, such as \"ssh.service\"");
    }
    Ok(())
}

fn check_unit_rule(unit: &Unit) -> Result<()> {
    check_unit(&unit.name).at("name")?;
    let wanted = unit.enabled == Some(true) || unit.running == Some(true);
    match unit {
        Unit {
            enabled: None,
            running: None,
            masked: None,
            ..
        } => {
            bail!("give at least one of `enabled`, `running`, `masked`")
        }
        Unit {
            masked: Some(true), ..
        } if wanted => {
            bail!("a masked unit can be neither enabled nor running")
        }
        Unit {
            if_missing: IfMissing::Create,
            ..
        } => Err(Error::new("a unit cannot be made; write its file with `file`").at("ifMissing")),
        _ => Ok(()),
    }
}

fn lookout(it: &config::Check) -> Result<Lookout> {
    let mut paths = vec![it.path.clone()];
    paths::check_glob(&it.path).at("path")?;
    for (index, path) in it.also.iter().enumerate() {
        paths::check_glob(path).at(format!("also[{index}]"))?;
        paths.push(path.clone());
    }
    let compile = |text: &Option<String>, field: &str| {
        let compiled = text.as_ref().map(|it| pattern::compile(it)).transpose();
        compiled.at(field)
    };
    let lookout = Lookout {
        paths,
        some_line: compile(&it.some_line, "someLine")?,
        no_line: compile(&it.no_line, "noLine")?,
        except: compile(&it.except, "except")?,
        if_missing: it.if_missing,
        wants: Vec::new(),
    };
    if lookout.some_line.is_none() && lookout.no_line.is_none() {
        bail!("give `someLine` or `noLine`");
    }
    if lookout.except.is_some() && lookout.no_line.is_none() {
        return Err(Error::new("is about `noLine`, which is missing").at("except"));
    }
    if lookout.if_missing == IfMissing::Create {
        return Err(Error::new("a check makes no file").at("ifMissing"));
    }
    Ok(lookout)
}
