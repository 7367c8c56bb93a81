//! Targets of redirects, and where a URL leads to.

use ureq::http::{Response, Uri, header};

/// Returns scheme, host and port of a URL.
pub(super) fn origin(url: &str) -> Option<(String, String, u16)> {
    let url: Uri = url.parse().ok()?;
    let scheme = url.scheme_str()?.to_ascii_lowercase();
    let port = url.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
    Some((scheme, url.host()?.to_ascii_lowercase(), port))
}

/// Returns the URL that an answer from `url` redirects to.
///
/// # Errors
/// What is wrong with it. None leads from an encrypted connection to one that is not.
pub(super) fn redirected<T>(url: &str, response: &Response<T>) -> Result<String, String> {
    let location = response.headers().get(header::LOCATION).ok_or("it redirects to nowhere")?;
    let target = String::from_utf8_lossy(location.as_bytes());
    let Some((absolute, (next, host, _))) = absolute(url, &target).and_then(|url| Some((url.clone(), origin(&url)?)))
    else {
        return Err(format!("it redirects to {target:?}, which is no URL"));
    };
    // With such a name, a request would carry it as a password.
    if absolute.split('/').nth(2).is_some_and(|authority| authority.contains('@')) {
        return Err("it redirects to a URL with a user name, which is not followed".to_owned());
    }
    match next.as_str() {
        "https" => Ok(absolute),
        "http" if url.starts_with("http://") => Ok(absolute),
        "http" => Err(format!("it redirects from https to {host} without encryption, which is not followed")),
        _ => Err(format!("it redirects to a URL of the scheme {next}, and https and http are followed")),
    }
}

/// Returns the target of a redirect from `url` as a whole URL, as RFC 3986 resolves it.
fn absolute(url: &str, target: &str) -> Option<String> {
    let target = target.split('#').next()?;
    if target.is_empty() {
        return Some(url.to_owned());
    }
    let (scheme, rest) = url.split_once("://")?;
    let has_scheme = target.split(['/', '?']).next().is_some_and(|head| head.contains(':'));
    if has_scheme {
        return Some(target.to_owned());
    }
    if let Some(elsewhere) = target.strip_prefix("//") {
        return Some(format!("{scheme}://{elsewhere}"));
    }
    let rest = rest.split(['?', '#']).next()?;
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (target_path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
    let path = if target_path.is_empty() {
        path.to_owned()
    } else if target_path.starts_with('/') {
        without_dots(target_path)
    } else {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        without_dots(&format!("{folder}/{target_path}"))
    };
    Some(format!("{scheme}://{host}{path}{query}"))
}

/// Resolves `.` and `..` in a path that begins with a slash.
fn without_dots(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/').skip(1) {
        match segment {
            "." => {}
            ".." => drop(segments.pop()),
            _ => segments.push(segment),
        }
    }
    if path.ends_with("/.") || path.ends_with("/..") {
        segments.push("");
    }
    format!("/{}", segments.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, location: &str, expected: Result<&str, &str>) {
        let response = Response::builder().header(header::LOCATION, location).body(()).expect("a response");
        assert_eq!(redirected(url, &response), expected.map(str::to_owned).map_err(str::to_owned), "{location}");
    }

    #[test]
    fn a_redirect_is_followed_or_refused_with_its_reason() {
        let hub = "https://hub.example/a/b?c=1";
        check(hub, "https://cdn.example/x", Ok("https://cdn.example/x"));
        check(hub, "//cdn.example/x", Ok("https://cdn.example/x"));
        check(hub, "/x", Ok("https://hub.example/x"));
        check(hub, "x", Ok("https://hub.example/a/x"));
        // The examples of RFC 3986, 5.4, that differ from these.
        let base = "http://a/b/c/d;p?q";
        for (target, expected) in [
            ("?y", "http://a/b/c/d;p?y"),
            ("g?y/./x", "http://a/b/c/g?y/./x"),
            ("./g", "http://a/b/c/g"),
            ("g/", "http://a/b/c/g/"),
            (".", "http://a/b/c/"),
            ("..", "http://a/b/"),
            ("../g", "http://a/b/g"),
            ("../../g", "http://a/g"),
            ("../../../../g", "http://a/g"),
            ("/./g", "http://a/g"),
            ("/../g", "http://a/g"),
            ("g#s/../x", "http://a/b/c/g"),
            ("", "http://a/b/c/d;p?q"),
        ] {
            check(base, target, Ok(expected));
        }
        check("https://hub.example", "x", Ok("https://hub.example/x"));
        check("http://h/a", "//evil.example:80/x", Ok("http://evil.example:80/x"));
        check(hub, "https://a:b@h/x", Err("it redirects to a URL with a user name, which is not followed"));
        check("http://h/a", "x?u=http://y", Ok("http://h/x?u=http://y"));
        check("http://127.0.0.1:80/a", "http://localhost/x", Ok("http://localhost/x"));
        check("http://127.0.0.1:80/a", "https://localhost/x", Ok("https://localhost/x"));
        let open = "it redirects from https to cdn.example without encryption, which is not followed";
        check(hub, "http://cdn.example/x", Err(open));
        check(
            hub,
            "ftp://cdn.example/x",
            Err("it redirects to a URL of the scheme ftp, and https and http are followed"),
        );
        check(hub, "https://", Err("it redirects to \"https://\", which is no URL"));
        let nowhere = Response::builder().body(()).expect("a response");
        assert_eq!(redirected(hub, &nowhere), Err("it redirects to nowhere".to_owned()));
    }
}
