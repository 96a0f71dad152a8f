#!/bin/sh
# Installs the Debian packages that are missing.  tools/setup.sh [build] [peers]
#   build: what compiles the BPF object and the shim.   peers: what demo, test and bench measure with and against.
# Needs root or a sudo that does not ask. Without either it names what is missing and goes on: the slow path needs none of it.
set -u
PATH=$PATH:/usr/sbin:/sbin

missing=
need() { # package, then a test that it is there
	package=$1
	shift
	"$@" >/dev/null 2>&1 || missing="$missing $package"
}
has() { command -v "$1"; }
has_any() { for name; do has "$name" && return; done; return 1; }

for set in "${@:-build}"; do
	case $set in
	build)
		need clang-19 has_any clang-19 clang
		need gcc has_any cc gcc
		need libc6-dev test -e /usr/include/stdio.h
		need libbpf-dev test -e /usr/include/bpf/bpf_helpers.h
		need bpftool has bpftool
		;;
	peers)
		need curl has curl
		need iproute2 has ip
		need nginx-light has nginx
		need haproxy has haproxy
		need wrk has wrk
		need python3 has python3
		;;
	*)
		echo "setup: no set '$set'" >&2
		exit 2
		;;
	esac
done
[ -n "$missing" ] || exit 0

say() { echo "setup: $*" >&2; }
as_root=
if [ "$(id -u)" != 0 ]; then
	if sudo -n true 2>/dev/null; then as_root='sudo -n'; fi
	if [ -z "$as_root" ]; then
		say "missing and not installed, as this is not root:$missing"
		exit 0
	fi
fi
if ! has apt-get >/dev/null; then
	say "missing, and this is no Debian to install them on:$missing"
	exit 0
fi

# Debian starts a server as soon as it is installed, unless this file says no; and again at every boot, if enabled.
policy=/usr/sbin/policy-rc.d
ours=
if [ ! -e $policy ]; then
	ours=yes
	trap '$as_root rm -f $policy' EXIT
	trap 'exit 1' INT TERM HUP
	printf '#!/bin/sh\nexit 101\n' | $as_root tee $policy >/dev/null && $as_root chmod 755 $policy
fi
install() {
	$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
		-o DPkg::Lock::Timeout=120 "$@" >&2
}
updated=
update() {
	[ -n "$updated" ] && return
	updated=yes
	$as_root apt-get update -q >&2
}
say "installing$missing"
# Lists that are a few days old still serve; without any, or where they fail, fetch them once.
ls /var/lib/apt/lists/*_Packages* >/dev/null 2>&1 || update
# shellcheck disable=SC2086
if ! install $missing; then
	update
	for package in $missing; do
		install "$package" || say "cannot install $package; going on without"
	done
fi
for server in nginx haproxy; do
	case " $missing" in *" $server"*)
		has systemctl >/dev/null && $as_root systemctl --quiet disable $server >/dev/null 2>&1
		# Where somebody else's policy stood, it may have said yes.
		[ -z "$ours" ] && [ -d /run/systemd/system ] && $as_root systemctl --quiet stop $server >/dev/null 2>&1
		;;
	esac
done
exit 0
