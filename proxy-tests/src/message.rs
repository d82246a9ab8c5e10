//! Frontend messages as bytes (protocol documentation, "Message Formats"). Builders do not check: tests send wrong ones too.

/// Protocol version 3.0.
pub const VERSION_3_0: u32 = 3 << 16;
/// Protocol version 3.2: longer cancel keys.
pub const VERSION_3_2: u32 = (3 << 16) | 2;

/// A message with a type byte and its declared length.
pub fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend(length(body.len() + 4));
    bytes.extend(body);
    bytes
}

/// A message without a type byte: startup and the requests sent in its place.
pub fn untyped(body: &[u8]) -> Vec<u8> {
    let mut bytes = length(body.len() + 4).to_vec();
    bytes.extend(body);
    bytes
}

fn length(length: usize) -> [u8; 4] {
    u32::try_from(length).expect("test messages are under 4 GiB").to_be_bytes()
}

fn cstr(text: impl AsRef<[u8]>) -> Vec<u8> {
    let mut bytes = text.as_ref().to_vec();
    bytes.push(0);
    bytes
}

fn count(number: usize) -> [u8; 2] {
    u16::try_from(number).expect("test messages have under 65,536 items").to_be_bytes()
}

/// `StartupMessage` of the given protocol version.
pub fn startup_version(version: u32, parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    for (name, value) in parameters {
        body.extend(cstr(name));
        body.extend(cstr(value));
    }
    body.push(0);
    untyped(&body)
}

/// `StartupMessage`, protocol 3.0.
pub fn startup(parameters: &[(&str, &str)]) -> Vec<u8> {
    startup_version(VERSION_3_0, parameters)
}

/// `SSLRequest`.
pub fn ssl_request() -> Vec<u8> {
    untyped(&80_877_103_u32.to_be_bytes())
}

/// `GSSENCRequest`.
pub fn gss_request() -> Vec<u8> {
    untyped(&80_877_104_u32.to_be_bytes())
}

/// `CancelRequest` with a key of any length.
pub fn cancel_request(pid: u32, key: &[u8]) -> Vec<u8> {
    let mut body = 80_877_102_u32.to_be_bytes().to_vec();
    body.extend(pid.to_be_bytes());
    body.extend(key);
    untyped(&body)
}

/// `Query`.
pub fn query(sql: impl AsRef<[u8]>) -> Vec<u8> {
    frame(b'Q', &cstr(sql))
}

/// `Parse` with parameter type OIDs (0: let the server decide).
pub fn parse(name: &str, sql: impl AsRef<[u8]>, types: &[u32]) -> Vec<u8> {
    let mut body = cstr(name);
    body.extend(cstr(sql));
    body.extend(count(types.len()));
    for oid in types {
        body.extend(oid.to_be_bytes());
    }
    frame(b'P', &body)
}

/// `Bind` with text parameters and text results.
pub fn bind(portal: &str, statement: &str, parameters: &[Option<&[u8]>]) -> Vec<u8> {
    bind_formats(portal, statement, &[], parameters, &[])
}

/// `Bind` with format codes.
pub fn bind_formats(
    portal: &str,
    statement: &str,
    formats: &[u16],
    parameters: &[Option<&[u8]>],
    results: &[u16],
) -> Vec<u8> {
    let mut body = cstr(portal);
    body.extend(cstr(statement));
    body.extend(count(formats.len()));
    body.extend(formats.iter().flat_map(|code| code.to_be_bytes()));
    body.extend(count(parameters.len()));
    for parameter in parameters {
        match parameter {
            Some(value) => {
                body.extend(length(value.len()));
                body.extend(*value);
            }
            None => body.extend((-1_i32).to_be_bytes()),
        }
    }
    body.extend(count(results.len()));
    body.extend(results.iter().flat_map(|code| code.to_be_bytes()));
    frame(b'B', &body)
}

/// `Describe` of a statement.
pub fn describe_statement(name: &str) -> Vec<u8> {
    named(b'D', b'S', name)
}

/// `Describe` of a portal.
pub fn describe_portal(name: &str) -> Vec<u8> {
    named(b'D', b'P', name)
}

/// `Close` of a statement.
pub fn close_statement(name: &str) -> Vec<u8> {
    named(b'C', b'S', name)
}

/// `Close` of a portal.
pub fn close_portal(name: &str) -> Vec<u8> {
    named(b'C', b'P', name)
}

fn named(tag: u8, kind: u8, name: &str) -> Vec<u8> {
    let mut body = vec![kind];
    body.extend(cstr(name));
    frame(tag, &body)
}

/// `Execute`; 0 rows means all.
pub fn execute(portal: &str, max_rows: u32) -> Vec<u8> {
    let mut body = cstr(portal);
    body.extend(max_rows.to_be_bytes());
    frame(b'E', &body)
}

/// `Sync`.
pub fn sync() -> Vec<u8> {
    frame(b'S', b"")
}

/// `Flush`.
pub fn flush() -> Vec<u8> {
    frame(b'H', b"")
}

/// `Terminate`.
pub fn terminate() -> Vec<u8> {
    frame(b'X', b"")
}

/// `PasswordMessage`, cleartext.
pub fn password(password: &str) -> Vec<u8> {
    frame(b'p', &cstr(password))
}

/// `CopyData`.
pub fn copy_data(data: &[u8]) -> Vec<u8> {
    frame(b'd', data)
}

/// `CopyDone`.
pub fn copy_done() -> Vec<u8> {
    frame(b'c', b"")
}

/// `CopyFail`.
pub fn copy_fail(why: &str) -> Vec<u8> {
    frame(b'f', &cstr(why))
}

/// `FunctionCall` with text arguments and a text result.
pub fn function_call(oid: u32, arguments: &[&[u8]]) -> Vec<u8> {
    let mut body = oid.to_be_bytes().to_vec();
    body.extend(count(0));
    body.extend(count(arguments.len()));
    for argument in arguments {
        body.extend(length(argument.len()));
        body.extend(*argument);
    }
    body.extend(count(0));
    frame(b'F', &body)
}

/// One statement through the extended protocol, unnamed, up to Sync.
pub fn extended(sql: &str, parameters: &[Option<&[u8]>]) -> Vec<u8> {
    [parse("", sql, &[]), bind("", "", parameters), describe_portal(""), execute("", 0), sync()].concat()
}
