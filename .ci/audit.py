"""Known vulnerabilities of the pinned versions: fails on findings, and says plainly where nothing could be asked."""

from __future__ import annotations

import json
import subprocess
import sys

COMMAND = [sys.executable, "-m", "pip_audit", "--no-deps", "--disable-pip", "--progress-spinner", "off"]

AWAY = ("ConnectionError", "ConnectTimeout", "ServiceError", "Max retries", "Name or service not known", "timed out")
"""What pip-audit says where its service can't be reached."""


def main(requirements: str) -> int:
    """Audit a file of pinned requirements; 1 if a version is known to be vulnerable."""
    done = subprocess.run([*COMMAND, "--format", "json", "--requirement", requirements], capture_output=True, text=True)
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except ValueError:
        reason = done.stderr.strip().rpartition("\n")[2]
        away = any(word in done.stderr for word in AWAY)
        print(f"skipped: the advisory service can't be asked ({reason})" if away else f"the audit failed: {reason}")
        return 0 if away else 1
    audited = [package for package in packages if "skip_reason" not in package]
    if not audited:
        print(f"skipped: the advisory service here knows none of the {len(packages)} packages")
        return 0
    findings = [(package, found) for package in audited for found in package["vulns"]]
    for package, found in findings:
        fixed = ", ".join(found["fix_versions"]) or "none yet"
        print(f"{package['name']} {package['version']}: {found['id']}, fixed in: {fixed}")
    unknown = len(packages) - len(audited)
    print(f"{len(audited)} packages audited, {unknown} not known to the service: {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
