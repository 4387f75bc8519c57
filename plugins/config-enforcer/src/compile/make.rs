//! Resources of the configuration, checked and compiled.

use bulkhead_sdk::{Context, Error, Result, bail};

use super::kinds::{Absence, Content, EditFile, Kind, Lookout, PermissionRule, SysctlRule, Whole};
use super::paths;
use crate::config::{self, FileState, IfMissing, LineState, Mode, Resource, Unit};
use crate::edit::Edit;
use crate::expression::Templates;
use crate::pattern;

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
            kinds.push(Kind::Symlink(config::Symlink::clone(it)));
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
            kinds.push(Kind::Module(config::KernelModule::clone(it)));
        }
        if let Some(it) = &resource.unit {
            check_unit_rule(it).at("unit")?;
            kinds.push(Kind::Unit(Unit::clone(it)));
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
