//! Places that are known to hold secrets. Most are closed to ordinary users, but the caller may be in a group that
//! reads them, or be user 0, or their modes may have been loosened.
//!
//! Not here, because programs inside need them and everybody reads them: pip.conf, npmrc, sources of packages.

/// Paths; the last part may have `*` in it. Directories are hidden whole.
pub(crate) const PLACES: &[&str] = &[
    // Passwords of this machine's users, who may become root, and the same in the databases of other services.
    "/etc/shadow",
    "/etc/shadow-",
    "/etc/gshadow",
    "/etc/gshadow-",
    "/etc/security/opasswd",
    "/etc/tcb",
    "/etc/sudoers",
    "/etc/sudoers.d",
    "/etc/doas.conf",
    "/etc/*ldap.secret",
    "/etc/nslcd.conf",
    "/etc/sssd",
    "/var/lib/extrausers/*shadow",
    "/var/lib/sss/db",
    "/var/lib/sss/keytabs",
    "/var/lib/sss/pipes/private",
    "/var/lib/sss/secrets",
    "/var/lib/samba/private",
    "/var/lib/fprint",
    "/var/lib/sudo",
    "/var/db/sudo",
    // Copies of them.
    "/var/backups",
    "/.snapshots",
    "/timeshift",
    // Private keys of this machine and its services.
    "/etc/ssh/ssh_host_*_key",
    "/etc/ssl/private",
    "/etc/pki/tls/private",
    "/etc/pki/CA/private",
    "/etc/pki/consumer",
    "/etc/pki/entitlement",
    "/etc/letsencrypt",
    "/var/lib/acme",
    "/var/lib/caddy",
    "/etc/krb5.keytab",
    "/etc/krb5kdc",
    "/var/lib/krb5kdc",
    "/var/kerberos",
    "/etc/cryptsetup-keys.d",
    "/etc/luks",
    "/etc/credstore*",
    "/var/lib/systemd/credential.secret",
    "/var/lib/systemd/random-seed",
    "/boot/loader/random-seed",
    "/boot/efi/loader/random-seed",
    "/boot/grub2/user.cfg",
    "/etc/salt/pki",
    "/etc/puppetlabs/puppet/ssl",
    // Networks: passwords of wireless ones, keys of private ones, devices that are paired.
    "/etc/NetworkManager/system-connections",
    "/var/lib/NetworkManager",
    "/etc/netplan",
    "/etc/wpa_supplicant*",
    "/var/lib/iwd",
    "/var/lib/connman",
    "/var/lib/bluetooth",
    "/etc/ppp/*-secrets",
    "/etc/wireguard",
    "/etc/openvpn",
    "/etc/ipsec.secrets",
    "/etc/ipsec.d/private",
    "/etc/swanctl",
    "/etc/tinc",
    "/etc/cloudflared",
    "/var/lib/tailscale",
    "/var/lib/zerotier-one",
    "/etc/snmp",
    "/var/lib/snmp",
    // Engines, clusters and machines inside this one: keys, and whole file systems with secrets of their own.
    "/etc/docker/key.json",
    "/etc/docker/certs.d",
    "/etc/containers/auth.json",
    "/etc/kubernetes",
    "/etc/rancher",
    "/etc/consul.d",
    "/etc/nomad.d",
    "/etc/vault.d",
    "/etc/libvirt",
    "/var/lib/docker",
    "/var/lib/containerd",
    "/var/lib/containers",
    "/var/lib/kubelet",
    "/var/lib/rancher",
    "/var/lib/k0s",
    "/var/lib/etcd",
    "/var/lib/consul",
    "/var/lib/nomad",
    "/var/lib/vault",
    "/var/lib/libvirt",
    "/var/lib/lxc",
    "/var/lib/lxd",
    "/var/lib/incus",
    "/var/lib/machines",
    "/var/lib/portables",
    "/var/lib/snapd/cookie",
    "/var/lib/snapd/state.json",
    "/var/snap",
    // What a cloud told this machine at its start, and the agents that speak for it.
    "/var/lib/cloud",
    "/var/lib/waagent",
    "/var/lib/amazon",
    "/var/log/cloud-init*",
    "/etc/boto.cfg",
    // Passwords of services and registries.
    "/etc/apt/auth.conf*",
    "/etc/zypp/credentials.d",
    "/etc/gitlab",
    "/etc/gitlab-runner",
    "/etc/davfs2/secrets",
    "/etc/*cifs*cred*",
    "/etc/exim4/passwd*",
    "/etc/postfix/sasl*",
    "/etc/msmtprc",
    "/etc/mysql/debian.cnf",
    "/etc/redis",
    // Data of services: it is not the sandbox's to read even if the caller may.
    "/var/lib/mysql",
    "/var/lib/postgresql",
    "/var/lib/pgsql",
    "/var/lib/mongodb",
    "/var/lib/redis",
    "/var/lib/grafana",
    "/var/lib/private",
    "/var/cache/private",
    "/var/log/private",
    // Mail, jobs and print jobs.
    "/var/mail",
    "/var/spool/*",
    // What was said, and the memory of what crashed or was swapped out.
    "/var/log/journal",
    "/var/log/audit",
    "/var/log/auth.log*",
    "/var/log/secure*",
    "/var/log/btmp*",
    "/var/log/sudo-io",
    "/var/log/installer",
    "/var/log/anaconda",
    "/var/crash",
    "/var/lib/systemd/coredump",
    "/var/lib/systemd/pstore",
    "/var/lib/apport",
    "/swapfile",
    "/swap.img",
    // Sockets of services, where it is no link to /run.
    "/var/run",
    // The sandbox has one of its own.
    "/var/tmp",
];

/// Whether a name is meant by a pattern: each `*` is any bytes, also none.
pub(crate) fn fits(pattern: &[u8], name: &[u8]) -> bool {
    match pattern.iter().position(|byte| *byte == b'*') {
        None => pattern == name,
        Some(star) => {
            let (head, tail) = (&pattern[..star], &pattern[star + 1..]);
            name.starts_with(head) && (head.len()..=name.len()).any(|at| fits(tail, &name[at..]))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_any_bytes() {
        for (pattern, name, wanted) in [
            ("ssh_host_*_key", "ssh_host_rsa_key", true),
            ("ssh_host_*_key", "ssh_host_rsa_key.pub", false),
            ("ssh_host_*_key", "ssh_host_key", false),
            ("*-secrets", "-secrets", true),
            ("*cifs*cred*", "x.cifs.credentials", true),
            ("*cifs*cred*", "x.credcifs", false),
            ("a", "ab", false),
            ("*", "", true),
        ] {
            assert_eq!(fits(pattern.as_bytes(), name.as_bytes()), wanted, "{pattern} {name}");
        }
    }

    #[test]
    fn every_place_is_an_absolute_path_named_once_with_stars_in_its_name_only() {
        let mut places = PLACES.to_vec();
        places.sort_unstable();
        places.dedup();
        assert_eq!(places.len(), PLACES.len());
        for place in PLACES {
            let (directory, name) = place.rsplit_once('/').unwrap();
            assert!(place.starts_with('/') && !directory.contains('*') && !name.is_empty(), "{place}");
        }
    }
}
