//! A device with passkeys, as far as a browser hears of it (WebAuthn level 3, attestation `none`).

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use serde_json::{Value, json};
use uuid::Uuid;

const PRESENT: u8 = 0x01;
const VERIFIED: u8 = 0x04;
const WITH_KEY: u8 = 0x40;

/// One passkey in a device; what it does wrong can be said.
pub(crate) struct Device {
    pair: EcdsaKeyPair,
    id: Vec<u8>,
    /// Of which page it says that it asks.
    pub(crate) origin: String,
    /// Whose it says it is.
    pub(crate) user: Vec<u8>,
    /// How often it was used.
    pub(crate) counter: u32,
    /// Whether somebody unlocks it.
    pub(crate) unlocked: bool,
    rp_id: String,
}

impl Device {
    pub(crate) fn new(origin: &str, rp_id: &str) -> Self {
        let document =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new()).expect("a key");
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, document.as_ref()).expect("a key");
        let id = Uuid::now_v7().as_bytes().to_vec();
        let (origin, rp_id) = (origin.to_owned(), rp_id.to_owned());
        Self { pair, id, origin, user: Vec::new(), counter: 0, unlocked: true, rp_id }
    }

    fn client_data(&self, kind: &str, options: &Value) -> Vec<u8> {
        let challenge = options["publicKey"]["challenge"].as_str().expect("a challenge");
        json!({"type": kind, "challenge": challenge, "origin": self.origin, "crossOrigin": false})
            .to_string()
            .into_bytes()
    }

    fn data(&mut self, with_key: bool) -> Vec<u8> {
        self.counter = self.counter.wrapping_add(1);
        let flags = PRESENT | if self.unlocked { VERIFIED } else { 0 } | if with_key { WITH_KEY } else { 0 };
        let mut data = digest(&SHA256, self.rp_id.as_bytes()).as_ref().to_vec();
        data.push(flags);
        data.extend(self.counter.to_be_bytes());
        if with_key {
            data.extend([0; 16]);
            data.extend((self.id.len() as u16).to_be_bytes());
            data.extend(&self.id);
            let point = self.pair.public_key().as_ref();
            // {1: 2, 3: -7, -1: 1, -2: x, -3: y}
            data.extend([0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01, 0x21, 0x58, 0x20]);
            data.extend(&point[1..33]);
            data.extend([0x22, 0x58, 0x20]);
            data.extend(&point[33..65]);
        }
        data
    }

    /// `navigator.credentials.create(options)`, by `toJSON()`.
    pub(crate) fn create(&mut self, options: &Value) -> Value {
        let user = options["publicKey"]["user"]["id"].as_str().expect("a user");
        self.user = BASE64URL.decode(user).expect("base64url");
        assert_eq!(options["publicKey"]["authenticatorSelection"]["userVerification"], "required", "{options}");
        let data = self.data(true);
        let mut object = b"\xa3\x63fmt\x64none\x67attStmt\xa0\x68authData\x58".to_vec();
        object.push(u8::try_from(data.len()).expect("under 256 bytes"));
        object.extend(data);
        let response = json!({
            "attestationObject": BASE64URL.encode(object),
            "clientDataJSON": BASE64URL.encode(self.client_data("webauthn.create", options)),
        });
        self.credential(response)
    }

    /// `navigator.credentials.get(options)`, by `toJSON()`.
    pub(crate) fn get(&mut self, options: &Value) -> Value {
        assert_eq!(options["publicKey"]["userVerification"], "required", "{options}");
        let (data, client_data) = (self.data(false), self.client_data("webauthn.get", options));
        let signed = [&data[..], digest(&SHA256, &client_data).as_ref()].concat();
        let signature = self.pair.sign(&SystemRandom::new(), &signed).expect("a signature");
        let response = json!({
            "authenticatorData": BASE64URL.encode(data),
            "clientDataJSON": BASE64URL.encode(client_data),
            "signature": BASE64URL.encode(signature.as_ref()),
            "userHandle": BASE64URL.encode(&self.user),
        });
        self.credential(response)
    }

    fn credential(&self, response: Value) -> Value {
        let id = BASE64URL.encode(&self.id);
        json!({"id": id, "rawId": id, "type": "public-key", "response": response, "clientExtensionResults": {}})
    }
}
