//! Copying both ways between two connections, each direction ending on its own.
//!
//! Idle connections hold no buffer: bytes pass through one buffer per thread, and only what the
//! receiver does not take at once is kept with the connection.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

/// The most that is read at once, and the most a direction holds for a slow receiver, in bytes.
const CHUNK_BYTES: usize = 64 * 1024;

/// A connection of which one side has ended is given up once the other moved no byte for so
/// long: a peer that is gone for good cannot be told from one that only has nothing to say.
const HALF_CLOSED_IDLE_MAX: Duration = Duration::from_mins(10);

thread_local! {
    static CHUNK: RefCell<Box<[u8]>> = RefCell::new(vec![0; CHUNK_BYTES].into_boxed_slice());
}

/// Copies both ways until both sides have ended, and passes each end on as it comes. Gives the
/// bytes moved from `client` and from `backend`.
///
/// # Errors
///
/// The first failure of either side, or [`io::ErrorKind::TimedOut`] after ten minutes of silence
/// from one side since the other has ended. The caller resets what is left.
pub(crate) async fn copy_both(
    client: &mut TcpStream,
    backend: &mut TcpStream,
) -> io::Result<(u64, u64)> {
    let (mut from_client, mut to_client) = client.split();
    let (mut from_backend, mut to_backend) = backend.split();
    let (mut up, mut down) = (OneWay::default(), OneWay::default());
    let mut silence: Option<Pin<Box<Sleep>>> = None;
    let mut moved = 0;
    poll_fn(move |cx| {
        let up_ended = up.poll(cx, &mut from_client, &mut to_backend)?.is_ready();
        let down_ended = down.poll(cx, &mut from_backend, &mut to_client)?.is_ready();
        if up_ended && down_ended {
            return Poll::Ready(Ok((up.moved, down.moved)));
        }
        if up_ended || down_ended {
            let quiet = silence.get_or_insert_with(|| Box::pin(sleep(HALF_CLOSED_IDLE_MAX)));
            if moved != up.moved + down.moved {
                moved = up.moved + down.moved;
                quiet.as_mut().reset(Instant::now() + HALF_CLOSED_IDLE_MAX);
            }
            if quiet.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        Poll::Pending
    })
    .await
}

/// One direction.
#[derive(Debug, Default)]
struct OneWay {
    /// Read, but not yet taken by the receiver: `held[at..]`.
    held: Vec<u8>,
    at: usize,
    state: State,
    moved: u64,
}

#[derive(Debug, Default, PartialEq)]
enum State {
    #[default]
    Copying,
    /// The sender has ended; what is held goes out, then the end is passed on.
    Ending,
    Ended,
}

impl OneWay {
    /// Ready once the sender's end was passed on; may be polled again then.
    fn poll<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
    ) -> Poll<io::Result<()>> {
        loop {
            while self.at < self.held.len() {
                let taken = ready!(Pin::new(&mut *to).poll_write(cx, &self.held[self.at..]))?;
                self.took(taken)?;
            }
            // Given back at once: most receivers are slow only now and then.
            self.held = Vec::new();
            self.at = 0;
            match self.state {
                State::Copying => {
                    ready!(CHUNK.with_borrow_mut(|chunk| self.poll_chunk(cx, from, to, chunk)))?;
                }
                State::Ending => {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                    self.state = State::Ended;
                }
                State::Ended => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Reads once and offers it to the receiver at once.
    fn poll_chunk<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
        chunk: &mut [u8],
    ) -> Poll<io::Result<()>> {
        let mut read = ReadBuf::new(chunk);
        ready!(Pin::new(from).poll_read(cx, &mut read))?;
        let got = read.filled();
        if got.is_empty() {
            self.state = State::Ending;
            return Poll::Ready(Ok(()));
        }
        match Pin::new(to).poll_write(cx, got) {
            Poll::Ready(taken) => {
                let taken = taken?;
                self.took(taken)?;
                self.at = 0;
                self.held.extend_from_slice(&got[taken..]);
                Poll::Ready(Ok(()))
            }
            Poll::Pending => {
                self.held.extend_from_slice(got);
                Poll::Ready(Ok(()))
            }
        }
    }

    fn took(&mut self, bytes: usize) -> io::Result<()> {
        if bytes == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.at += bytes;
        self.moved += bytes as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        (near, listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn an_end_of_one_side_leaves_the_other_open() {
        let ((mut client, mut a), (mut b, mut backend)) = (pair().await, pair().await);
        let copy = tokio::spawn(async move { copy_both(&mut a, &mut b).await });
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut question = String::new();
        backend.read_to_string(&mut question).await.unwrap();
        assert_eq!(question, "question");
        backend.write_all(b"the answer").await.unwrap();
        drop(backend);
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "the answer");
        assert_eq!(copy.await.unwrap().unwrap(), (8, 10));
    }

    #[tokio::test]
    async fn a_slow_receiver_gets_every_byte_in_order() {
        let ((mut client, mut a), (mut b, mut backend)) = (pair().await, pair().await);
        let copy = tokio::spawn(async move { copy_both(&mut a, &mut b).await });
        const BYTES: usize = 32 << 20;
        let byte = |n: usize| (n ^ (n >> 8) ^ (n >> 16)) as u8;
        let sender = tokio::spawn(async move {
            let all: Vec<u8> = (0..BYTES).map(byte).collect();
            client.write_all(&all).await.unwrap();
            client.shutdown().await.unwrap();
            client
        });
        let (mut at, mut buffer) = (0, vec![0; 7_777]);
        loop {
            let got = backend.read(&mut buffer).await.unwrap();
            if got == 0 {
                break;
            }
            assert!(
                buffer[..got]
                    .iter()
                    .enumerate()
                    .all(|(n, b)| *b == byte(at + n)),
                "near {at}"
            );
            at += got;
        }
        assert_eq!(at, BYTES);
        drop((sender.await.unwrap(), backend));
        assert_eq!(copy.await.unwrap().unwrap(), (BYTES as u64, 0));
    }
}
