# The desired state of tests/convergence.rs, for Puppet with its modules stdlib and augeas_core. The fact
# `root` (FACTER_root) is the tree.

File { owner => 'root', group => 'root' }

# Whole files.
file {
  "${root}/etc/motd": content => "Property of Example Ltd.\n", mode => '0644';
  "${root}/etc/issue": content => "Authorised use only.\n", mode => '0644';
  "${root}/etc/issue.net": content => "Authorised use only.\n", mode => '0644';
  "${root}/etc/app/app.conf":
    content => "listen = 127.0.0.1:8080\n\n# Half of them.\nworkers = 2\n", mode => '0640', group => 1000;
  "${root}/etc/app/token": content => 's3cret', mode => '0600', owner => 1000, group => 1000;
  "${root}/etc/sudoers.d/ops": content => "%ops ALL=(ALL) ALL\n", mode => '0440';
  "${root}/usr/local/bin/hello": content => "#!/bin/sh\necho hello\n", mode => '0755';
  "${root}/etc/profile.d/umask.sh": content => inline_epp("umask <%= '027' %>\n"), mode => '0644';
}
range(1, 8).each |$n| {
  file { "${root}/etc/app/conf.d/0${n}.conf": content => "part = ${n}\n", mode => '0644' }
}

# Folders.
file {
  default: ensure => directory;
  "${root}/etc/app": mode => '0750', group => 1000;
  "${root}/etc/app/conf.d": mode => '0755';
  "${root}/etc/sudoers.d": mode => '0750';
  "${root}/srv/app": mode => '0711', owner => 1000, group => 1000;
  "${root}/srv/app/data": mode => '2775', owner => 1000, group => 1000;
  "${root}/var/lib/app": mode => '0700';
}

# Links.
file {
  default: ensure => link;
  "${root}/etc/localtime": target => '/usr/share/zoneinfo/Asia/Tokyo';
  "${root}/etc/app/current": target => 'conf.d/01.conf';
  "${root}/usr/local/bin/hi": target => 'hello';
}

# Removals.
file {
  default: ensure => absent;
  "${root}/etc/hosts.equiv": ;
  "${root}/etc/motd.old": ;
  "${root}/opt/old": recurse => true, force => true;
  "${root}/etc/never-there": ;
}

# Lines.
file { "${root}/etc/shells.allow": ensure => file, mode => '0644' }
file_line {
  'no-core':
    path => "${root}/etc/security/limits.conf", line => '* hard core 0',
    match => '^\*\s+hard\s+core\s', after => '^#@student\s+-\s+maxlogins';
  'files':
    path => "${root}/etc/security/limits.conf", line => '* soft nofile 4096',
    match => '^\*\s+soft\s+nofile\s', after => '^\* hard core 0$', require => File_line['no-core'];
  'no-swap':
    ensure => absent, path => "${root}/etc/fstab", match => '^[^#]\S*\s+\S+\s+swap\s',
    match_for_absence => true;
  'registry':
    path => "${root}/etc/hosts", line => '10.0.0.1 registry.internal', match => '\sregistry\.internal$';
  'mirror':
    path => "${root}/etc/hosts", line => '10.0.0.2 mirror.internal', match => '\smirror\.internal$';
  'no-history': path => "${root}/etc/profile", line => 'export HISTSIZE=0';
  'wheel':
    path => "${root}/etc/pam.d/su", line => 'auth required pam_wheel.so',
    match => '^#?\s*auth\s+required\s+pam_wheel\.so$';
  'shells': path => "${root}/etc/shells.allow", line => '/bin/sh', require => File["${root}/etc/shells.allow"];
}

# Keys of files that are edited in place.
[['PermitRootLogin', 'no'], ['MaxAuthTries', '4'], ['X11Forwarding', 'no'], ['LogLevel', 'VERBOSE']].reduce([]) |$before, $it| {
  # Before what is included: the first of several lines counts.
  augeas { $it[0]:
    incl    => "${root}/etc/ssh/sshd_config",
    lens    => 'Sshd.lns',
    onlyif  => "match ${it[0]}[. = '${it[1]}'] size == 0",
    changes => ["ins ${it[0]} before Include", "set ${it[0]}[1] ${it[1]}"],
    require => $before,
  }
  [Augeas[$it[0]]]
}
File_line { require => File["${root}/etc/app"] }
file_line {
  'pass-max':
    path => "${root}/etc/login.defs", line => "PASS_MAX_DAYS\t365", match => '^PASS_MAX_DAYS\s';
  'pass-min':
    path => "${root}/etc/login.defs", line => "PASS_MIN_DAYS\t1", match => '^PASS_MIN_DAYS\s';
  'pass-umask':
    path => "${root}/etc/login.defs", line => "UMASK\t\t027", match => '^UMASK\s';
  'ini-level': path => "${root}/etc/app/service.ini", line => 'level=debug', match => '^level=';
  'ini-size':
    path => "${root}/etc/app/service.ini", line => 'size=10M', match => '^size=';
  'ini-port': path => "${root}/etc/app/service.ini", line => 'port = 9090', match => '^port = ';
  'ini-debug':
    ensure => absent, path => "${root}/etc/app/service.ini", match => '^debug = ', match_for_absence => true;
  'sysctl-forward':
    path => "${root}/etc/sysctl.d/90-app.conf", line => 'net.ipv4.ip_forward = 1',
    match => '^net\.ipv4\.ip_forward\s*=';
  'sysctl-redirects':
    path => "${root}/etc/sysctl.d/90-app.conf", line => 'net.ipv4.conf.all.accept_redirects = 0',
    match => '^net\.ipv4\.conf\.all\.accept_redirects\s*=';
  'kubelet-anonymous':
    path => "${root}/var/lib/kubelet/config.yaml", line => '    enabled: false   # for now',
    match => '^    enabled: .*# for now';
  'kubelet-port':
    path => "${root}/var/lib/kubelet/config.yaml", line => 'readOnlyPort: 0', match => '^readOnlyPort:';
  'kubelet-rotate':
    path => "${root}/var/lib/kubelet/config.yaml", line => 'rotateCertificates: true',
    match => '^rotateCertificates:', after => '^readOnlyPort:';
  'docker-size':
    path => "${root}/etc/docker/daemon.json", line => '    "max-size": "10m",', match => '^\s*"max-size":';
  'docker-icc':
    path => "${root}/etc/docker/daemon.json", line => '  "icc": false,', match => '^\s*"icc":';
}

# Who may use what is there.
file {
  "${root}/etc/shadow": mode => '0640', group => 42;
  "${root}/etc/gshadow": mode => '0640', group => 42;
  "${root}/etc/ssh/sshd_config": mode => '0600';
  "${root}/etc/cron.d": ensure => directory, mode => '0700';
  "${root}/etc/crontab": mode => '0600';
  "${root}/var/lib/kubelet/config.yaml": mode => '0600';
}
