"""What sslyze finds of a listener with TLS: `python sslyze_scan.py HOST:PORT`."""

import sys

from sslyze import (
    Scanner,
    ScanCommand,
    ScanCommandAttemptStatusEnum,
    ServerNetworkConfiguration,
    ServerNetworkLocation,
    ServerScanRequest,
    ServerScanStatusEnum,
)

OLD = [
    ScanCommand.SSL_2_0_CIPHER_SUITES,
    ScanCommand.SSL_3_0_CIPHER_SUITES,
    ScanCommand.TLS_1_0_CIPHER_SUITES,
    ScanCommand.TLS_1_1_CIPHER_SUITES,
]
COMMANDS = {
    *OLD,
    ScanCommand.TLS_1_2_CIPHER_SUITES,
    ScanCommand.TLS_1_3_CIPHER_SUITES,
    ScanCommand.TLS_1_3_EARLY_DATA,
    ScanCommand.TLS_COMPRESSION,
    ScanCommand.SESSION_RENEGOTIATION,
    ScanCommand.TLS_FALLBACK_SCSV,
    ScanCommand.TLS_EXTENDED_MASTER_SECRET,
    ScanCommand.OPENSSL_CCS_INJECTION,
    ScanCommand.HEARTBLEED,
    ScanCommand.ROBOT,
    ScanCommand.ELLIPTIC_CURVES,
}
TLS_1_2 = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
}
TLS_1_3 = {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"}


def check(seen, wanted, what):
    print(f"{what}: {seen}")
    if seen != wanted:
        sys.exit(f"{what}: {seen} instead of {wanted}")


def scan(address):
    host, port = address.rsplit(":", 1)
    location = ServerNetworkLocation("localhost", int(port), host)
    scanner = Scanner()
    network = ServerNetworkConfiguration("localhost", network_timeout=30)
    scanner.queue_scans([ServerScanRequest(location, network_configuration=network, scan_commands=COMMANDS)])
    (result,) = scanner.get_results()
    check(result.scan_status, ServerScanStatusEnum.COMPLETED, "the scan")
    return result.scan_result


def main(address):
    found = scan(address)

    def of(command):
        attempt = getattr(found, command.value)
        check(attempt.status, ScanCommandAttemptStatusEnum.COMPLETED, command.value)
        return attempt.result

    def suites(command):
        return {suite.cipher_suite.name for suite in of(command).accepted_cipher_suites}

    for command in OLD:
        check(suites(command), set(), f"suites of {command.value}")
    check(suites(ScanCommand.TLS_1_2_CIPHER_SUITES), TLS_1_2, "suites of TLS 1.2")
    check(suites(ScanCommand.TLS_1_3_CIPHER_SUITES), TLS_1_3, "suites of TLS 1.3")
    check(of(ScanCommand.TLS_1_3_EARLY_DATA).supports_early_data, False, "early data")
    check(of(ScanCommand.TLS_COMPRESSION).supports_compression, False, "compression")
    renegotiation = of(ScanCommand.SESSION_RENEGOTIATION)
    check(renegotiation.is_vulnerable_to_client_renegotiation_dos, False, "renegotiation by the client")
    check(renegotiation.supports_secure_renegotiation, True, "the signal that renegotiation is safe (RFC 5746)")
    check(of(ScanCommand.TLS_EXTENDED_MASTER_SECRET).supports_ems_extension, True, "extended master secret")
    check(of(ScanCommand.OPENSSL_CCS_INJECTION).is_vulnerable_to_ccs_injection, False, "CCS injection")
    check(of(ScanCommand.HEARTBLEED).is_vulnerable_to_heartbleed, False, "Heartbleed")
    check(of(ScanCommand.ROBOT).robot_result.name, "NOT_VULNERABLE_RSA_NOT_SUPPORTED", "ROBOT")
    curves = {curve.name for curve in of(ScanCommand.ELLIPTIC_CURVES).supported_curves}
    check(curves, {"X25519", "secp256r1", "secp384r1"}, "curves")


if __name__ == "__main__":
    main(sys.argv[1])
