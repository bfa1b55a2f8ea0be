# Run as root on a machine of the sandbox. Repackages the named packages of its own repository under a higher version, puts them there, and reads the lists again,
# as the timer of the machine would. Their contents stay. It has no single quote, since it is passed inside of them.
#   $1: the end of the new version
set -euo pipefail
export LC_ALL=C
repository=/usr/share/infra-sandbox/packages
ending=$1
shift
folder=$(mktemp -d)
cleanup() { rm -rf "$folder"; }
trap cleanup EXIT
for package in "$@"; do
    version=$(dpkg-query -W -f "\${Version}" "$package")
    file=$(find "$repository" -name "${package}_*_*.deb")
    dpkg-deb -R "$file" "$folder/$package"
    # Packages of one source name each other by their exact version.
    sed -i "s/$version/$version$ending/g" "$folder/$package/DEBIAN/control"
    dpkg-deb --root-owner-group -Zgzip -z1 -b "$folder/$package" "$repository/${package}_newer$ending.deb" >/dev/null
done
cd "$repository"
apt-ftparchive packages . >"$folder/Packages"
mv "$folder/Packages" Packages
apt-ftparchive -o APT::FTPArchive::Release::Origin=infra-sandbox -o APT::FTPArchive::Release::Suite=trixie release . >"$folder/Release"
mv "$folder/Release" Release
apt-get -q update >/dev/null
