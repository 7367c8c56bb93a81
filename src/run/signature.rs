//! Signed statements, which tie the digest of a run to the one who states it.
//!
//! A statement has the form of [in-toto](https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md), version 1: its
//! subject is a run with its digest, and its predicate the run's [`Certificate`]. It is signed with Ed25519 (RFC 8032) in an
//! envelope of [DSSE](https://github.com/secure-systems-lab/dsse/blob/master/protocol.md), version 1. Keys are PEM files, the
//! private one in PKCS#8 without a passphrase, as OpenSSL writes them.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::certificate::{self, Certificate};
use super::error::{RunError, SignatureError};
use crate::ledger::LedgerError;
use crate::store::{Digest, atomic, parse_json, read_up_to};

const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
const PREDICATE_TYPE: &str = "urn:fedreplay:certificate:v1";

/// Name of the digest of a run among the digests of a subject. It is the end of a chain of BLAKE3 hashes, and not the hash
/// of a file, which `blake3` would say.
const DIGEST_NAME: &str = "fedreplayRun";

/// ASN.1 in front of the 32 bytes of a public Ed25519 key (RFC 8410, section 4).
const PUBLIC_KEY_HEADER: [u8; 12] = [0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];

/// A private Ed25519 key.
pub struct SigningKey(Ed25519KeyPair);

/// A public Ed25519 key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyingKey([u8; 32]);

/// A signed payload, as DSSE writes it in JSON.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload_type: String,
    /// In base64.
    payload: String,
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Serialize, Deserialize)]
struct EnvelopeSignature {
    /// SHA-256 of the public key in its ASN.1 form; a hint that nothing relies on.
    #[serde(default)]
    keyid: String,
    /// In base64.
    sig: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    #[serde(rename = "_type")]
    statement_type: String,
    subject: Vec<Subject>,
    predicate_type: String,
    predicate: Certificate,
}

/// Type of a statement, which decides how the rest is read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StatementKind {
    #[serde(rename = "_type")]
    statement_type: String,
    predicate_type: String,
}

#[derive(Serialize, Deserialize)]
struct Subject {
    name: String,
    digest: BTreeMap<String, String>,
}

impl SigningKey {
    /// Reads a key from the PEM file that `openssl genpkey -algorithm ed25519` writes.
    ///
    /// # Errors
    /// If the file cannot be read, or has no such key.
    pub fn read(path: &Path) -> Result<Self, RunError> {
        let bytes = read(path)?;
        let unusable = |reason| SignatureError::Key { path: path.to_owned(), reason };
        let no_key = "no private key in PKCS#8's PEM form without a passphrase";
        let der = PrivatePkcs8KeyDer::from_pem_slice(&bytes).map_err(|_| unusable(no_key))?;
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der());
        Ok(Self(pair.map_err(|_| unusable("a key of another kind than Ed25519"))?))
    }

    /// Returns the public key.
    pub fn public(&self) -> VerifyingKey {
        VerifyingKey(self.0.public_key().as_ref().try_into().expect("an Ed25519 key has 32 bytes"))
    }

    fn sign(&self, payload: &[u8]) -> Envelope {
        let signature = self.0.sign(&signed_bytes(PAYLOAD_TYPE, payload));
        Envelope {
            payload_type: PAYLOAD_TYPE.to_owned(),
            payload: BASE64.encode(payload),
            signatures: vec![EnvelopeSignature {
                keyid: self.public().fingerprint(),
                sig: BASE64.encode(signature.as_ref()),
            }],
        }
    }
}

impl VerifyingKey {
    /// Reads a key from the PEM file that `openssl pkey -pubout` writes.
    ///
    /// # Errors
    /// If the file cannot be read, or has no such key.
    pub fn read(path: &Path) -> Result<Self, RunError> {
        let bytes = read(path)?;
        let unusable = |reason| SignatureError::Key { path: path.to_owned(), reason };
        let der = SubjectPublicKeyInfoDer::from_pem_slice(&bytes).map_err(|_| unusable("no public key in PEM form"))?;
        let key = der.strip_prefix(&PUBLIC_KEY_HEADER).and_then(|key| key.try_into().ok());
        Ok(key.map(Self).ok_or_else(|| unusable("a key of another kind than Ed25519"))?)
    }

    /// Returns the SHA-256 hash of the key in its ASN.1 form, as `openssl pkey -pubin -outform DER | sha256sum` does.
    pub fn fingerprint(&self) -> String {
        let hash = Sha256::new().chain_update(PUBLIC_KEY_HEADER).chain_update(self.0).finalize();
        hash.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn has_signed(&self, payload: &[u8], signature: &EnvelopeSignature) -> bool {
        let Ok(bytes) = BASE64.decode(&signature.sig) else { return false };
        UnparsedPublicKey::new(&ED25519, &self.0).verify(&signed_bytes(PAYLOAD_TYPE, payload), &bytes).is_ok()
    }
}

/// Writes a statement about a run of this name with this certificate, signed with `key`, to the file `out`.
///
/// # Errors
/// If the file cannot be written.
pub(crate) fn write_statement(
    name: &str,
    certificate: Certificate,
    key: &SigningKey,
    out: &Path,
) -> Result<(), RunError> {
    let statement = Statement {
        statement_type: STATEMENT_TYPE.to_owned(),
        subject: vec![Subject {
            name: name.to_owned(),
            digest: BTreeMap::from([(DIGEST_NAME.to_owned(), certificate.digest.to_string())]),
        }],
        predicate_type: PREDICATE_TYPE.to_owned(),
        predicate: certificate,
    };
    let payload = serde_json::to_vec(&statement).expect("a statement has only text keys");
    let text = serde_json::to_string_pretty(&key.sign(&payload)).expect("an envelope has only text keys") + "\n";
    Ok(atomic::write(out, text.as_bytes()).map_err(LedgerError::io(out))?)
}

/// Reads the certificate in a signed statement; `None` if the owner of `key` has not signed it. Of what nobody signed, only
/// the form of the envelope is read.
///
/// # Errors
/// If the file cannot be read, or has no statement about a run.
pub fn signed_certificate(path: &Path, key: &VerifyingKey) -> Result<Option<Certificate>, RunError> {
    let malformed = |reason: String| SignatureError::Statement { path: path.to_owned(), reason };
    let envelope: Envelope = parse_json(&read(path)?).map_err(|error| malformed(error.to_string()))?;
    if envelope.payload_type != PAYLOAD_TYPE {
        let reason = format!("its payload is of type {:?}, expected {PAYLOAD_TYPE:?}", envelope.payload_type);
        return Err(malformed(reason).into());
    }
    let payload = BASE64.decode(&envelope.payload).map_err(|error| malformed(format!("its payload: {error}")))?;
    if !envelope.signatures.iter().any(|signature| key.has_signed(&payload, signature)) {
        return Ok(None);
    }
    let kind: StatementKind = parse_json(&payload).map_err(|error| malformed(error.to_string()))?;
    if kind.statement_type != STATEMENT_TYPE || kind.predicate_type != PREDICATE_TYPE {
        let reason = format!(
            "it states {:?} in the form {:?}, expected {PREDICATE_TYPE:?} in the form {STATEMENT_TYPE:?}",
            kind.predicate_type, kind.statement_type
        );
        return Err(malformed(reason).into());
    }
    let statement: Statement = parse_json(&payload).map_err(|error| malformed(error.to_string()))?;
    let digests = statement.subject.iter().map(|subject| subject.digest.get(DIGEST_NAME));
    let stated: Vec<Option<Digest>> = digests.map(|digest| Digest::from_hex(digest?)).collect();
    statement.predicate.check_version().map_err(malformed)?;
    if stated != [Some(statement.predicate.digest)] {
        return Err(malformed("its subject is not the run of its certificate".to_owned()).into());
    }
    Ok(Some(statement.predicate))
}

/// Returns the bytes over which a signature is made: DSSE's pre-authentication encoding.
fn signed_bytes(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

fn read(path: &Path) -> Result<Vec<u8>, LedgerError> {
    read_up_to(path, 2 * certificate::BYTES_MAX).map_err(LedgerError::io(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of DSSE's protocol, section "Signature Definition".
    #[test]
    fn the_signed_bytes_are_those_of_dsse() {
        let expected = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world";
        assert_eq!(signed_bytes("http://example.com/HelloWorld", b"hello world"), expected);
    }

    /// The signature of `openssl pkeyutl -sign -rawin` over the same bytes.
    #[test]
    fn signatures_are_those_of_openssl() {
        let key = b"-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIHV1OwfFV7aJox83hozzjvniT4UmllPQfxPiCMRfxGhv\n\
            -----END PRIVATE KEY-----\n";
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), key).expect("a writable file");
        let key = SigningKey::read(file.path()).expect("a key");
        let expected = "d0FaEy+B3FhMxC11+YAxYd2hqZ9pvXATtOMew1ofosxLD5fL5lXnBw85oaPKJ/DKemWzQY0JkJTIsUOl2JRQBw==";
        let envelope = key.sign(b"hello world");
        assert_eq!(envelope.signatures[0].sig, expected);
        assert!(key.public().has_signed(b"hello world", &envelope.signatures[0]));
        assert!(!key.public().has_signed(b"hello worlD", &envelope.signatures[0]));
    }
}
