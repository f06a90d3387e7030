//! A server that speaks S3, over a directory: each of its folders is a bucket.

use std::net::Ipv4Addr;
use std::path::Path;

use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use tokio::net::TcpListener;

/// Serves `files` as long as the test's runtime lives, and gives the address.
pub(crate) async fn serve(files: &Path, access_key: &str, secret: &str) -> String {
    let mut service = S3ServiceBuilder::new(FileSystem::new(files).expect("a directory"));
    service.set_auth(SimpleAuth::from_single(access_key, secret));
    let service = service.build();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let service = service.clone();
            tokio::spawn(async move {
                let served = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service);
                // A client that goes away is no fault of ours.
                let _ = served.await;
            });
        }
    });
    format!("http://{address}")
}
