//! What is measured: this project's functions, their peers, and an empty function.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use flate2::Compression;
use flate2::write::DeflateEncoder;
use serde::Serialize;

use crate::lambda::Program;
use crate::operations::Operation;
use crate::upstreams::Upstreams;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Implementation {
    /// This project.
    Ours,
    /// What a Rust developer writes first.
    PlainRust,
    /// Circle's SDK and the AWS SDK on Node.js.
    Node,
    /// An empty function.
    Floor,
}

impl Implementation {
    pub(crate) const ALL: [Self; 4] = [Self::Ours, Self::PlainRust, Self::Node, Self::Floor];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::PlainRust => "plain Rust",
            Self::Node => "Node",
            Self::Floor => "floor",
        }
    }
}

/// Where the programs are.
#[derive(Debug, Default)]
pub(crate) struct Places {
    /// This project's functions: NAME or NAME/bootstrap.
    pub(crate) functions: PathBuf,
    /// The binaries `plain` and `floor`.
    pub(crate) peers: PathBuf,
    /// The program `node`.
    pub(crate) node: PathBuf,
    /// The bundles for Node.js, `NAME.mjs`.
    pub(crate) bundles: PathBuf,
}

/// A function of an implementation.
pub(crate) struct Subject {
    pub(crate) implementation: Implementation,
    pub(crate) operation: Operation,
    pub(crate) program: Program,
    /// The status of its responses, if they have one.
    pub(crate) status: Option<u16>,
    /// What is deployed, in bytes.
    pub(crate) size: u64,
    /// The same in a zip archive.
    pub(crate) zipped: u64,
}

impl Subject {
    pub(crate) fn new(
        implementation: Implementation,
        operation: Operation,
        places: &Places,
        upstreams: &Upstreams,
    ) -> Result<Self> {
        let function = operation.function();
        let (path, arguments, deployed) = match implementation {
            Implementation::Ours => {
                let path = places.functions.join(function);
                let path = if path.is_dir() { path.join("bootstrap") } else { path };
                (path.clone(), vec![], path)
            }
            Implementation::PlainRust => (places.peers.join("plain"), vec![], places.peers.join("plain")),
            Implementation::Floor => (places.peers.join("floor"), vec![], places.peers.join("floor")),
            Implementation::Node => {
                let bundle = places.bundles.join(format!("{function}.mjs"));
                (places.node.clone(), vec![bundle.clone().into()], bundle)
            }
        };
        let (size, zipped) = sizes(&deployed)?;
        Ok(Self {
            implementation,
            operation,
            program: Program {
                path,
                arguments,
                environment: environment(implementation, function, upstreams),
            },
            status: if implementation == Implementation::Floor { Some(200) } else { operation.status() },
            size,
            zipped,
        })
    }

    pub(crate) fn name(&self) -> String {
        match self.implementation {
            Implementation::Floor => "floor".to_owned(),
            implementation => format!("{} {}", implementation.name(), self.operation.name()),
        }
    }
}

/// The variables that Lambda sets, and those of `infra/template.yaml`. The rest leads to the upstreams.
fn environment(
    implementation: Implementation,
    function: &str,
    upstreams: &Upstreams,
) -> Vec<(String, String)> {
    let path = |path: &Path| path.display().to_string();
    let trusted = match implementation {
        // On Lambda these functions read no certificates: their list of authorities is compiled in.
        Implementation::Ours => &upstreams.root,
        // The others read as many certificates as on Lambda.
        _ => &upstreams.roots,
    };
    let variables = [
        ("AWS_ACCESS_KEY_ID", "ASIAIOSFODNN7EXAMPLE"),
        ("AWS_DEFAULT_REGION", "eu-central-1"),
        ("AWS_EXECUTION_ENV", "AWS_Lambda_provided.al2023"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512"),
        ("AWS_LAMBDA_FUNCTION_NAME", function),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
        ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand"),
        ("AWS_LAMBDA_LOG_FORMAT", "JSON"),
        ("AWS_LAMBDA_LOG_GROUP_NAME", "/aws/lambda/bench"),
        ("AWS_LAMBDA_LOG_LEVEL", "INFO"),
        ("AWS_LAMBDA_LOG_STREAM_NAME", "2026/01/01/[$LATEST]00000000000000000000000000000000"),
        ("AWS_REGION", "eu-central-1"),
        ("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
        ("AWS_SESSION_TOKEN", SESSION_TOKEN),
        ("CHALLENGES_TABLE", "challenges"),
        ("CIRCLE_API_KEY_SECRET_ID", "circle-api-key"),
        ("LANG", "en_US.UTF-8"),
        ("LAMBDA_RUNTIME_DIR", "/var/runtime"),
        ("LAMBDA_TASK_ROOT", "/var/task"),
        ("METRICS_NAMESPACE", "circle-pin-reset/circle-pin-reset"),
        ("PATH", "/usr/local/bin:/usr/bin/:/bin:/opt/bin"),
        ("RATE_LIMITS_TABLE", "rate-limits"),
        ("TZ", ":UTC"),
        ("USER_HASH_KEY", "a key for benchmarks, as long as the one that the stack generates"),
        ("_HANDLER", "bootstrap"),
        ("AWS_ENDPOINT_URL_DYNAMODB", &upstreams.dynamodb_url),
        ("AWS_ENDPOINT_URL_SECRETS_MANAGER", &upstreams.secrets_manager_url),
        ("CIRCLE_BASE_URL", &upstreams.circle_url),
        ("NODE_EXTRA_CA_CERTS", &path(&upstreams.root)),
        ("SSL_CERT_FILE", &path(trusted)),
    ];
    variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// As long as the one that Lambda gives.
const SESSION_TOKEN: &str = concat!(
    "IQoJb3JpZ2luX2VjEXAMPLE0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789abcdefghijklmnop",
    "IQoJb3JpZ2luX2VjEXAMPLE0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789abcdefghijklmnop",
    "IQoJb3JpZ2luX2VjEXAMPLE0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789abcdefghijklmnop",
    "IQoJb3JpZ2luX2VjEXAMPLE0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789abcdefghijklmnop",
    "IQoJb3JpZ2luX2VjEXAMPLE0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789abcdefghijklmnop",
    "IQoJb3JpZ2luX2VjEXAMPLE0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789abcdefghijklmnop",
    "IQoJb3JpZ2luX2VjEXAMPLE0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789abcdefghijklmnop",
);

/// The size of a file, and of its best deflate compression, which is what a zip archive holds.
fn sizes(file: &Path) -> Result<(u64, u64)> {
    let mut encoder = DeflateEncoder::new(Counter(0), Compression::best());
    let mut content = File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
    let size = std::io::copy(&mut content, &mut encoder)?;
    Ok((size, encoder.finish()?.0))
}

struct Counter(u64);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
