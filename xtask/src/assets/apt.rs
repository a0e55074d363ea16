//! A private apt: Debian packages of any architecture, with every signature
//! checked, without root and without touching the machine's own package state.
//!
//! apt already knows how to verify an archive: `InRelease` is checked against
//! the Debian archive keys, the package lists against `InRelease`, each package
//! against the lists. All it needs is to be pointed at folders of ours (apt.conf(5),
//! "DIRECTORIES") and at a mirror, and the mirror this machine uses is the one
//! it can reach.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};

use crate::proc;
use crate::progress::Step;

/// The Debian release everything is taken from.
const SUITE: &str = "trixie";

/// What the same release is called as well, for as long as it is the current one. A mirror serves each name
/// from files of its own, and while it is being updated one of them may be whole and the other not.
const ALIAS: &str = "stable";

/// Names a mirror explicitly, for machines whose own apt knows none.
const MIRROR_VARIABLE: &str = "AXVCPU_DEBIAN_MIRROR";

/// Names a keyring explicitly, for machines without Debian's.
const KEYRING_VARIABLE: &str = "AXVCPU_DEBIAN_KEYRING";

/// Where `debian-archive-keyring` installs the keys; the name changed over time.
const KEYRINGS: [&str; 2] = [
    "/usr/share/keyrings/debian-archive-keyring.pgp",
    "/usr/share/keyrings/debian-archive-keyring.gpg",
];

/// Package lists older than this are fetched again before they are used: a
/// point release removes the packages that older lists name.
const LISTS_MAX_AGE: Duration = Duration::from_secs(12 * 3600);

/// One private apt, for packages of one architecture.
pub(crate) struct Apt {
    folder: PathBuf,
    arch: String,
}

impl Apt {
    /// Opens the private apt for `arch` (a Debian name, such as `riscv64`)
    /// below `root`, with current package lists.
    ///
    /// # Errors
    ///
    /// Fails when apt is missing, no Debian mirror is known or reachable, or a
    /// signature does not hold.
    pub(crate) fn open(root: &Path, arch: &str) -> Result<Self> {
        let apt = Self { folder: root.join(arch), arch: arch.into() };
        apt.remove_archives()?;
        if apt.lists_are_current() {
            return Ok(apt);
        }
        let step = Step::new(format!("package lists of Debian {SUITE} for {arch}"));
        let mirror = mirror()?;
        let keyring = installed_keyring()?;
        if let Err(first) = apt.update_by_either_name(&mirror, &keyring) {
            // A machine older than the suite may lack the suite's key. The keyring
            // package of the machine's own release is signed by a key it has.
            if !format!("{first:#}").contains("NO_PUBKEY") {
                return Err(first);
            }
            let newer = newer_keyring(root, &mirror, &keyring)
                .with_context(|| format!("{first:#}\nand no newer keyring was found"))?;
            apt.update_by_either_name(&mirror, &newer)?;
        }
        fs::write(apt.folder.join("stamp"), SUITE).context("cannot note the update")?;
        step.done("signatures verified");
        Ok(apt)
    }

    /// The direct dependencies of `package`, names only.
    pub(crate) fn depends(&self, package: &str) -> Result<Vec<String>> {
        let text = proc::output(
            self.command("apt-cache")
                .args(["depends", "--no-recommends", "--no-suggests", "--no-conflicts"])
                .args(["--no-breaks", "--no-replaces", "--no-enhances", package]),
        )?;
        Ok(text
            .lines()
            .filter_map(|line| line.trim().strip_prefix("Depends: "))
            .map(|name| name.trim().to_owned())
            .collect())
    }

    /// The version of `package` the archive offers.
    pub(crate) fn version(&self, package: &str) -> Result<String> {
        let text = proc::output(self.command("apt-cache").args(["show", package]))?;
        let version = text.lines().find_map(|line| line.strip_prefix("Version: "));
        Ok(version.with_context(|| format!("no version of {package} in the archive"))?.to_owned())
    }

    /// Downloads `packages` and, if asked, everything they depend on; returns
    /// the package files, which are valid until [`Apt::remove_archives`].
    pub(crate) fn download(
        &self,
        packages: &[&str],
        with_dependencies: bool,
    ) -> Result<Vec<PathBuf>> {
        let step = Step::new(format!("download {}", packages.join(", ")));
        let archives = self.folder.join("cache/archives");
        let command = |extra: &str| {
            let mut command = self.command("apt-get");
            if with_dependencies {
                // With no package installed (the status file is empty) the
                // dependencies come out complete, down to the C library.
                command.args(["install", "--yes", "--no-install-recommends"]);
            } else {
                // `download` writes to the working folder.
                command.current_dir(&archives).arg("download");
            }
            command.arg(extra).args(packages);
            command
        };
        let mut files = Vec::new();
        let mut total = 0;
        for line in proc::output(&mut command("--print-uris"))?.lines() {
            // 'URI' file-name size hash
            let Some((_, rest)) = line.strip_prefix('\'').and_then(|line| line.split_once("' "))
            else {
                continue;
            };
            let mut fields = rest.split(' ');
            let (Some(file), Some(size)) = (fields.next(), fields.next()) else {
                bail!("apt printed a line that is not understood: {line}");
            };
            total += size.parse::<u64>().with_context(|| format!("a size in: {line}"))?;
            files.push(archives.join(file));
        }
        if files.is_empty() && !packages.is_empty() {
            bail!("the archive offers none of: {}", packages.join(", "));
        }

        let mut command = command("--download-only");
        let worker = std::thread::spawn(move || proc::output(&mut command));
        while !worker.is_finished() {
            step.bytes(folder_size(&archives), total);
            std::thread::sleep(Duration::from_millis(100));
        }
        match worker.join() {
            Ok(result) => result?,
            Err(_) => bail!("the download was interrupted"),
        };
        if let Some(missing) = files.iter().find(|file| !file.is_file()) {
            bail!("apt did not leave {}", missing.display());
        }
        step.done(&format!("{:.1} MB in {} packages", total as f64 / 1e6, files.len()));
        Ok(files)
    }

    /// Removes the downloaded package files: what was unpacked is what counts,
    /// and what an interrupted run left is not known to be complete.
    pub(crate) fn remove_archives(&self) -> Result<()> {
        let archives = self.folder.join("cache/archives");
        // Absent at first; then there is nothing to remove.
        let _ = fs::remove_dir_all(&archives);
        let partial = archives.join("partial");
        fs::create_dir_all(&partial).with_context(|| format!("cannot make {}", partial.display()))
    }

    fn lists_are_current(&self) -> bool {
        let stamp = fs::metadata(self.folder.join("stamp")).and_then(|stamp| stamp.modified());
        // A stamp from the future counts as old.
        stamp.is_ok_and(|time| {
            SystemTime::now().duration_since(time).is_ok_and(|age| age < LISTS_MAX_AGE)
        })
    }

    /// Fetches the package lists of [`SUITE`], by its other name if the mirror's first answer does not hold
    /// together. The lists are checked against a signed `InRelease` whichever way they come.
    fn update_by_either_name(&self, mirror: &str, keyring: &Path) -> Result<()> {
        let Err(first) = self.update(mirror, SUITE, keyring) else { return Ok(()) };
        if !format!("{first:#}").contains("Mirror sync in progress") {
            return Err(first);
        }
        self.forget_lists()?;
        if self.update(mirror, ALIAS, keyring).is_err() || !self.lists_are_of(SUITE) {
            self.forget_lists()?;
            return Err(first);
        }
        Ok(())
    }

    /// Whether the lists describe themselves as the release with this code name.
    fn lists_are_of(&self, codename: &str) -> bool {
        let line = format!("Codename: {codename}");
        let files = fs::read_dir(self.folder.join("lists")).into_iter().flatten().flatten();
        files
            .filter(|file| file.file_name().to_string_lossy().ends_with("_InRelease"))
            .filter_map(|file| fs::read_to_string(file.path()).ok())
            .any(|text| text.lines().any(|found| found == line))
    }

    /// Removes the lists, also those that were only half of an update.
    fn forget_lists(&self) -> Result<()> {
        let lists = self.folder.join("lists");
        fs::remove_dir_all(&lists).with_context(|| format!("cannot remove {}", lists.display()))
    }

    /// Points this apt at `suite` on `mirror` and fetches the package lists.
    fn update(&self, mirror: &str, suite: &str, keyring: &Path) -> Result<()> {
        let folder = self.folder.display();
        let lists = self.folder.join("lists/partial");
        fs::create_dir_all(&lists).with_context(|| format!("cannot make {}", lists.display()))?;
        let keys = keyring.display();
        let files = [
            ("status", String::new()),
            (
                "sources.list",
                format!("deb [signed-by={keys} target=Packages] {mirror} {suite} main\n"),
            ),
            (
                "apt.conf",
                format!(
                    "APT::Architecture \"{arch}\";\n\
                     #clear APT::Architectures;\n\
                     APT::Architectures {{ \"{arch}\"; }};\n\
                     APT::Sandbox::User \"\";\n\
                     APT::Update::Error-Mode \"any\";\n\
                     APT::Get::AllowUnauthenticated \"false\";\n\
                     Acquire::AllowInsecureRepositories \"false\";\n\
                     Acquire::AllowWeakRepositories \"false\";\n\
                     Acquire::AllowDowngradeToInsecureRepositories \"false\";\n\
                     Acquire::Languages \"none\";\n\
                     Acquire::Retries \"3\";\n\
                     Dir::Etc::sourcelist \"{folder}/sources.list\";\n\
                     Dir::Etc::sourceparts \"/dev/null\";\n\
                     Dir::State \"{folder}\";\n\
                     Dir::State::lists \"{folder}/lists\";\n\
                     Dir::State::status \"{folder}/status\";\n\
                     Dir::Cache \"{folder}/cache\";\n\
                     Dir::Cache::archives \"{folder}/cache/archives\";\n",
                    arch = self.arch,
                ),
            ),
        ];
        for (name, text) in files {
            let file = self.folder.join(name);
            fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        }
        proc::output(self.command("apt-get").arg("update"))
            .context("the Debian mirror cannot be used")?;
        Ok(())
    }

    /// `program` of the apt family, working on our folders. `-c` is read after
    /// the machine's own configuration, which stays in force for the rest, such
    /// as proxies.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        // apt's messages are parsed.
        command.env("LC_ALL", "C").arg("-c").arg(self.folder.join("apt.conf"));
        command
    }
}

/// Unpacks a package file below `into`; only the path `only` (with a leading
/// `./`) if given.
pub(crate) fn unpack(package: &Path, into: &Path, only: Option<&str>) -> Result<()> {
    fs::create_dir_all(into).with_context(|| format!("cannot make {}", into.display()))?;
    let Some(only) = only else {
        let mut command = Command::new("dpkg-deb");
        return proc::output(command.arg("-x").args([package, into])).map(drop);
    };
    let mut reader = Command::new("dpkg-deb");
    reader.arg("--fsys-tarfile").arg(package).stdout(std::process::Stdio::piped());
    let mut reader = proc::spawn(&mut reader)?;
    let pipe = reader.stdout.take().context("no pipe from dpkg-deb")?;
    let tar = Command::new("tar").arg("-x").arg("-C").arg(into).arg(only).stdin(pipe).status();
    let read = reader.wait().context("cannot wait for dpkg-deb")?;
    if !tar.context("cannot start `tar`")?.success() || !read.success() {
        bail!("cannot unpack {only} from {}", package.display());
    }
    Ok(())
}

/// The Debian mirror this machine uses.
fn mirror() -> Result<String> {
    if let Some(mirror) = env::var_os(MIRROR_VARIABLE) {
        return mirror.into_string().ok().with_context(|| format!("{MIRROR_VARIABLE} is no text"));
    }
    let found = targets()?.into_iter().map(|target| target.site).next();
    found.with_context(|| {
        format!(
            "this machine's apt knows no Debian mirror; set {MIRROR_VARIABLE} to one's address \
             and, if this is not Debian, {KEYRING_VARIABLE} to Debian's archive keyring"
        )
    })
}

/// One archive among the machine's own apt sources.
#[derive(Debug, PartialEq)]
struct Target {
    site: String,
    release: String,
}

/// The machine's Debian archives without the security ones, which hold only
/// part of the packages.
fn targets() -> Result<Vec<Target>> {
    let ask = |extra: &[&str]| {
        let mut command = Command::new("apt-get");
        command.env("LC_ALL", "C").arg("indextargets").args(extra);
        proc::output(command.args(["--format", "$(SITE) $(RELEASE) $(ORIGIN)"]))
    };
    let targets = parse_targets(&ask(&[])?);
    if !targets.is_empty() {
        return Ok(targets);
    }
    // Where `apt-get update` never ran, as in a fresh container, apt has the
    // addresses but not yet the archives' description of themselves.
    Ok(parse_targets(&ask(&["--no-release-info"])?))
}

fn parse_targets(text: &str) -> Vec<Target> {
    let mut targets = Vec::new();
    for line in text.lines() {
        let mut fields = line.splitn(3, ' ');
        let (Some(site), Some(release), Some(origin)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        // A field apt does not know stays as it was written.
        let unknown = origin.starts_with("$(");
        let debian =
            origin == "Debian" || unknown && site.trim_end_matches('/').ends_with("/debian");
        let whole = !release.contains("security") && !site.contains("security");
        let target = Target { site: site.into(), release: release.into() };
        if debian && whole && !targets.contains(&target) {
            targets.push(target);
        }
    }
    targets
}

fn installed_keyring() -> Result<PathBuf> {
    if let Some(keyring) = env::var_os(KEYRING_VARIABLE) {
        return Ok(keyring.into());
    }
    KEYRINGS
        .iter()
        .map(PathBuf::from)
        .find(|keyring| keyring.is_file())
        .context("Debian's archive keys are missing: install the package `debian-archive-keyring`")
}

/// The keyring as the machine's own Debian release offers it now.
fn newer_keyring(root: &Path, mirror: &str, keyring: &Path) -> Result<PathBuf> {
    let target = targets()?.into_iter().next().context("the machine's own release is unknown")?;
    let own = Apt { folder: root.join("keyring"), arch: super::host_arch()?.into() };
    own.remove_archives()?;
    own.update(mirror, &target.release, keyring)?;
    let unpacked = own.folder.join("unpacked");
    for package in own.download(&["debian-archive-keyring"], false)? {
        unpack(&package, &unpacked, None)?;
    }
    let inside = |path: &str| unpacked.join(path.trim_start_matches('/'));
    KEYRINGS.iter().map(|path| inside(path)).find(|file| file.is_file()).context("no keyring in it")
}

/// Bytes in the files of `folder` and of its `partial` folder.
fn folder_size(folder: &Path) -> u64 {
    // For a progress bar only: a file that vanishes meanwhile counts nothing.
    [folder.to_owned(), folder.join("partial")]
        .iter()
        .flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten())
        .filter_map(|entry| entry.metadata().ok())
        .filter(|metadata| metadata.is_file())
        .map(|metadata| metadata.len())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_the_main_debian_archive() {
        let text = "https://a.invalid/other stable Other\n\
                    https://b.invalid/debian-security bookworm-security Debian\n\
                    https://b.invalid/debian bookworm Debian\n\
                    https://b.invalid/debian bookworm Debian\n\
                    https://b.invalid/debian bookworm-updates Debian\n";
        let found = parse_targets(text);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].site, "https://b.invalid/debian");
        assert_eq!(found[0].release, "bookworm");
    }

    #[test]
    fn without_release_information_the_path_decides() {
        let text = "https://a.invalid/tools stable $(ORIGIN)\n\
                    https://b.invalid/debian-security x-security $(ORIGIN)\n\
                    https://b.invalid/debian/ x $(ORIGIN)\n";
        let found = parse_targets(text);
        assert_eq!(
            found,
            [Target { site: "https://b.invalid/debian/".into(), release: "x".into() }]
        );
    }

    #[test]
    fn another_distribution_has_no_debian_mirror() {
        assert!(parse_targets("https://a.invalid/ubuntu noble Ubuntu\n\nnonsense\n").is_empty());
    }
}
