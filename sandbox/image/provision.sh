#!/bin/sh
# Runs in the new root of the image, with the network of the computer that builds it; makes of a minimal
# Debian what an EC2 image of Debian is, as far as a machine without a network can tell.
# $1: the Ec2 source of cloud-init looks at this file to learn that it is on EC2.
set -eu
hypervisor_uuid=$1
export DEBIAN_FRONTEND=noninteractive LC_ALL=C

# No service may start while the image is built.
printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d
chmod 0755 /usr/sbin/policy-rc.d

echo '# step: package lists'
apt-get -q update
echo '# step: cloud-init and base packages'
apt-get -q -y --no-install-recommends install cloud-init apt-utils python3 procps less iputils-ping curl

echo '# step: packages that hosts may ask for'
repository=/usr/share/infra-sandbox/packages
mkdir -p "$repository"
grep -v '^#' /usr/share/infra-sandbox/packages.txt | while read -r packages; do
    # shellcheck disable=SC2086  # a line is a list of packages
    apt-get -q -y --download-only -o Dir::Cache::archives="$repository" -o APT::Keep-Downloaded-Packages=true install $packages
done
rm -rf "$repository/partial" "$repository/lock"

echo '# step: local package repository'
cd "$repository"
apt-ftparchive packages . > Packages
apt-ftparchive -o APT::FTPArchive::Release::Origin=infra-sandbox -o APT::FTPArchive::Release::Suite=trixie release . > /tmp/Release
mv /tmp/Release Release
# The only source of a machine: files of its own image, which need neither a network nor a signature.
rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/* /etc/apt/apt.conf.d/00infra-sandbox-build
echo "deb [trusted=yes] file:$repository ./" > /etc/apt/sources.list.d/infra-sandbox.list
apt-get clean
rm -rf /var/lib/apt/lists/*
apt-get -q update

echo '# step: cloud-init without a cloud'
# It asks for an IMDSv2 token only where it believes itself on EC2, and learns that from a file in /sys
# that no container can have.
source=/usr/lib/python3/dist-packages/cloudinit/sources/DataSourceEc2.py
grep -q '"/sys/hypervisor/uuid"' "$source"
sed -i "s|\"/sys/hypervisor/uuid\"|\"$hypervisor_uuid\"|" "$source"
# The machine has its addresses before it boots: asking a DHCP server that is not there would take them away.
grep -q 'perform_dhcp_setup = True' "$source"
sed -i 's/perform_dhcp_setup = True/perform_dhcp_setup = False/' "$source"
python3 -m py_compile "$source"
systemctl enable cloud-init-main.service cloud-init-network.service cloud-config.service cloud-final.service cloud-init-local.service

# A machine's console is a log.
systemctl mask console-getty.service
# The caches are built now, so that a first boot does not build them.
touch /etc/.updated /var/.updated
ldconfig
journalctl --update-catalog

echo '# step: nothing that two machines would share'
rm -f /etc/ssh/ssh_host_* /etc/resolv.conf /etc/hostname /var/lib/dbus/machine-id /usr/sbin/policy-rc.d
: > /etc/machine-id
: > /etc/resolv.conf
passwd -q -l root
