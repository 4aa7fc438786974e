//! A web client of one request.

use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingBody, Method, OutgoingBody, OutgoingRequest, RequestOptions, Scheme,
};
use wasip2::io::streams::StreamError;

pub fn fetch(url: &str, text: Option<&str>, milliseconds: u64) -> Result<String, String> {
    let (scheme, rest) = match url.split_once("://") {
        Some(("http", rest)) => (Scheme::Http, rest),
        Some(("https", rest)) => (Scheme::Https, rest),
        _ => return Err("an address is http://host/path or https://host/path".to_owned()),
    };
    let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let headers = Fields::new();
    if let Some(text) = text {
        let length = text.len().to_string().into_bytes();
        headers.append("content-length", &length).map_err(|error| format!("header: {error:?}"))?;
    }
    let request = OutgoingRequest::new(headers);
    let method = if text.is_some() { Method::Post } else { Method::Get };
    let set = request
        .set_method(&method)
        .and_then(|()| request.set_scheme(Some(&scheme)))
        .and_then(|()| request.set_authority(Some(authority)))
        .and_then(|()| request.set_path_with_query(Some(path)));
    set.map_err(|()| "the address is none".to_owned())?;
    let options = RequestOptions::new();
    let patience = Some(milliseconds.saturating_mul(1_000_000));
    let set = options.set_first_byte_timeout(patience).and_then(|()| options.set_between_bytes_timeout(patience));
    set.map_err(|()| "the time is none".to_owned())?;
    let body = request.body().map_err(|()| "no body".to_owned())?;
    let response = handle(request, Some(options)).map_err(said)?;
    send(body, text.unwrap_or_default())?;
    response.subscribe().block();
    let response = response.get().and_then(Result::ok).ok_or("no response")?.map_err(said)?;
    let mut answer = format!("{}\n", response.status()).into_bytes();
    let body = response.consume().map_err(|()| "no body".to_owned())?;
    receive(&body, &mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn send(body: OutgoingBody, text: &str) -> Result<(), String> {
    let stream = body.write().map_err(|()| "no stream".to_owned())?;
    for piece in text.as_bytes().chunks(4096) {
        stream.blocking_write_and_flush(piece).map_err(|error| format!("write: {error:?}"))?;
    }
    drop(stream);
    OutgoingBody::finish(body, None).map_err(said)
}

fn receive(body: &IncomingBody, answer: &mut Vec<u8>) -> Result<(), String> {
    let stream = body.stream().map_err(|()| "no stream".to_owned())?;
    loop {
        match stream.blocking_read(64 * 1024) {
            Ok(bytes) => answer.extend(bytes),
            Err(StreamError::Closed) => return Ok(()),
            Err(StreamError::LastOperationFailed(error)) => return Err(error.to_debug_string()),
        }
    }
}

fn said(code: ErrorCode) -> String {
    format!("{code:?}")
}
