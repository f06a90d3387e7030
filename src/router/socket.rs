//! The bytes below a connection. The budget's permit lives here, and leaves only when the socket does.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::connect::{ConnectError, ConnectFailure};
use super::pools::Permit;

const KEEPALIVE: Duration = Duration::from_secs(30);
/// Unacknowledged data older than this ends the connection: a black-holed peer is noticed.
const USER_TIMEOUT: Duration = Duration::from_secs(20);

#[derive(Debug)]
enum Io {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A socket to a PostgreSQL server.
#[derive(Debug)]
pub(crate) struct Socket {
    io: Io,
    closing: bool,
    _permit: Option<Permit>,
}

impl Socket {
    /// Connects to a host, or to the Unix socket in the directory `host`.
    pub(super) async fn connect(host: &str, port: u16, permit: Option<Permit>) -> Result<Self, ConnectError> {
        let io = if host.starts_with('/') {
            UnixStream::connect(format!("{host}/.s.PGSQL.{port}")).await.map(Io::Unix)
        } else {
            TcpStream::connect((host, port)).await.and_then(|stream| {
                stream.set_nodelay(true)?;
                let socket = SockRef::from(&stream);
                socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
                #[cfg(target_os = "linux")]
                socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
                Ok(Io::Tcp(stream))
            })
        };
        let io = io.map_err(|e| ConnectError::new(ConnectFailure::Unreachable, e))?;
        Ok(Self { io, closing: false, _permit: permit })
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Io::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.io {
            Io::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Io::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Io::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    /// Closes our end, then reads until the server has closed its own. A PostgreSQL backend's socket closes when the
    /// process is gone, after it has left `pg_stat_activity`: so a permit is never back before its backend is gone.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.closing {
            let closed = match &mut self.io {
                Io::Tcp(stream) => ready!(Pin::new(stream).poll_shutdown(cx)),
                Io::Unix(stream) => ready!(Pin::new(stream).poll_shutdown(cx)),
            };
            self.closing = true;
            if closed.is_err() {
                return Poll::Ready(Ok(()));
            }
        }
        let mut scratch = [0; 1024];
        loop {
            let mut buf = ReadBuf::new(&mut scratch);
            match ready!(self.as_mut().poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => {}
                _ => return Poll::Ready(Ok(())),
            }
        }
    }
}
