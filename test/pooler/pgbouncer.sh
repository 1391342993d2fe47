# Puts PgBouncer 1.24 with its libraries into a folder of the cache, on any Debian and as any user: that of Debian 12, 1.18,
# loses prepared statements. Prints the folder, which is to be first on PATH. Does nothing when it is there already.
set -eu
if [ "$(id -u)" = 0 ]; then cache=/var/cache; else cache=${XDG_CACHE_HOME:-$HOME/.cache}; fi
folder=$cache/latchkey/pgbouncer
release=trixie
packages='pgbouncer libc6 libcares2 libevent-2.1-7t64 libssl3t64 libsystemd0 libpam0g libaudit1 libcap2 libcap-ng0 libgcc-s1 libzstd1 zlib1g'

if ! "$folder/pgbouncer" --version >/dev/null 2>&1; then
  # The mirror of this system, and an apt of its own that knows nothing but that release.
  find_mirror() { apt-get indextargets --format '$(REPO_URI)' 'Label: Debian' | head -n 1; }
  mirror=$(find_mirror)
  [ -n "$mirror" ] || { apt-get update -qq >&2 && mirror=$(find_mirror); }
  rm -rf "$folder"
  mkdir -p "$folder/apt/lists/partial" "$folder/apt/archives/partial" "$folder/system"
  cd "$folder/apt"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $release main" >sources.list
  : >status
  cat >apt.conf <<END
Dir::Etc::sourcelist "$folder/apt/sources.list";
Dir::Etc::sourceparts "-";
Dir::State "$folder/apt";
Dir::State::status "$folder/apt/status";
Dir::Cache "$folder/apt";
Acquire::Languages "none";
APT::Sandbox::User "";
END
  export APT_CONFIG="$folder/apt/apt.conf"
  {
    apt-get update -qq
    # shellcheck disable=SC2086
    apt-get download -qq $packages
    for package in ./*.deb; do dpkg-deb --extract "$package" "$folder/system"; done
  } >&2
  # Its own loader, because the C library is newer than that of the system.
  libraries=$(dirname "$(ls "$folder"/system/usr/lib/*/ld-linux*)")
  cat >"$folder/pgbouncer" <<END
#!/bin/sh
exec $libraries/ld-linux* --library-path $libraries $folder/system/usr/sbin/pgbouncer "\$@"
END
  chmod 755 "$folder/pgbouncer"
  "$folder/pgbouncer" --version >&2
  cd /
  rm -rf "$folder/apt"
fi
echo "$folder"
