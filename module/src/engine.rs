//! The engine's interface to modules. Source: redismodule.h of Redis 7.2; Valkey has the same.
//! The engine calls from its main thread. Arguments live for the call; it frees the error it gets.

#![allow(unsafe_code, reason = "the interface is C's")]

use crate::origins::{Origin, Replicas};
use std::ffi::{CStr, c_char, c_int, c_uint, c_ulonglong, c_void};
use std::mem::transmute_copy;
use std::ptr::null_mut;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

const OK: c_int = 0;
const ERR: c_int = 1;
/// The module has decided: unless it logged a user in, the login is refused.
const AUTH_HANDLED: c_int = 0;
/// The next module decides, and at last the engine, by the password.
const AUTH_NOT_HANDLED: c_int = 1;
const API_VERSION: c_int = 1;
const CLIENT_INFO_VERSION: u64 = 1;
const FLAG_UNIX_SOCKET: u64 = 1 << 4;
/// The reason that ACL LOG shows as `auth`.
const LOG_AUTH: c_int = 0;
const CONFIG_DEFAULT: c_uint = 0;

/// Opaque: never looked into.
enum Context {}
enum Text {}

#[repr(C)]
struct ClientInfo {
    version: u64,
    flags: u64,
    id: u64,
    address: [c_char; 46],
    port: u16,
    db: u16,
}

type GetApi = unsafe extern "C" fn(*const c_char, *mut *mut c_void) -> c_int;
type SetModuleAttribs = unsafe extern "C" fn(*mut Context, *const c_char, c_int, c_int);
type CreateString = unsafe extern "C" fn(*mut Context, *const c_char, usize) -> *mut Text;
type FreeString = unsafe extern "C" fn(*mut Context, *mut Text);
type StringPtrLen = unsafe extern "C" fn(*const Text, *mut usize) -> *const c_char;
type GetClientId = unsafe extern "C" fn(*mut Context) -> c_ulonglong;
type GetClientInfoById = unsafe extern "C" fn(*mut ClientInfo, u64) -> c_int;
type Login = unsafe extern "C" fn(*mut Context, *mut Text, *mut Text, *mut *mut Text) -> c_int;
type RegisterAuthCallback = unsafe extern "C" fn(*mut Context, Login);
type AddLogEntry = unsafe extern "C" fn(*mut Context, *mut Text, *mut Text, c_int) -> c_int;
type GetSetting = unsafe extern "C" fn(*const c_char, *mut c_void) -> *mut Text;
type SetSetting = unsafe extern "C" fn(*const c_char, *mut Text, *mut c_void, *mut *mut Text) -> c_int;
type ApplySettings = unsafe extern "C" fn(*mut Context, *mut c_void, *mut *mut Text) -> c_int;
type RegisterStringConfig = unsafe extern "C" fn(
    *mut Context,
    *const c_char,
    *const c_char,
    c_uint,
    GetSetting,
    SetSetting,
    Option<ApplySettings>,
    *mut c_void,
) -> c_int;
type LoadConfigs = unsafe extern "C" fn(*mut Context) -> c_int;
type Log = unsafe extern "C" fn(*mut Context, *const c_char, *const c_char, ...);

/// The functions that are called while the engine runs.
struct Engine {
    create_string: CreateString,
    free_string: FreeString,
    string_ptr_len: StringPtrLen,
    client_id: GetClientId,
    client_info: GetClientInfoById,
    add_log_entry: AddLogEntry,
}

static ENGINE: OnceLock<Engine> = OnceLock::new();
static SETTING: Mutex<Setting> = Mutex::new(Setting {
    replicas: Replicas::none(),
    shown: null_mut(),
});

/// The list, and its text as the engine last got it. The engine neither keeps nor frees that text.
struct Setting {
    replicas: Replicas,
    shown: *mut Text,
}

// SAFETY: only the engine's main thread calls this module and touches the engine's strings.
unsafe impl Send for Setting {}

fn setting() -> MutexGuard<'static, Setting> {
    SETTING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns a function of the engine by its name; `None` if this engine does not have it.
///
/// # Safety
/// `F` is the type of a function pointer that the engine's header declares for the name.
unsafe fn function<F: Copy>(get: GetApi, name: &CStr) -> Option<F> {
    let mut found: *mut c_void = null_mut();
    // SAFETY: the name is a C string, and the engine writes one pointer.
    let answer = unsafe { get(name.as_ptr(), &raw mut found) };
    // SAFETY: a pointer to a function is as large as one to anything else here.
    (answer == OK && !found.is_null()).then(|| unsafe { transmute_copy(&found) })
}

/// Called by the engine when it loads the module, at its start.
///
/// # Safety
/// `context` is what the engine hands to a module that it loads.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn RedisModule_OnLoad(context: *mut c_void, _: *mut *mut c_void, _: c_int) -> c_int {
    if context.is_null() {
        return ERR;
    }
    // SAFETY: the first word of a context is the function that gives all others.
    let get: Option<GetApi> = unsafe { *context.cast::<Option<GetApi>>() };
    // SAFETY: context and function are the engine's.
    match get.and_then(|get| unsafe { load(context.cast(), get) }) {
        Some(()) => OK,
        None => ERR,
    }
}

/// Returns `None` if the engine lacks what every module needs.
unsafe fn load(context: *mut Context, get: GetApi) -> Option<()> {
    // SAFETY: each name stands beside the type that the engine's header declares for it.
    unsafe {
        let set_attributes: SetModuleAttribs = function(get, c"RedisModule_SetModuleAttribs")?;
        set_attributes(context, c"infra".as_ptr(), 1, API_VERSION);
        let log: Log = function(get, c"RedisModule_Log")?;
        let engine = Engine {
            create_string: function(get, c"RedisModule_CreateString")?,
            free_string: function(get, c"RedisModule_FreeString")?,
            string_ptr_len: function(get, c"RedisModule_StringPtrLen")?,
            client_id: function(get, c"RedisModule_GetClientId")?,
            client_info: function(get, c"RedisModule_GetClientInfoById")?,
            add_log_entry: function(get, c"RedisModule_ACLAddLogEntryByUserName").unwrap_or(no_log_entry),
        };
        let _ = ENGINE.set(engine);
        let register_setting: RegisterStringConfig = function(get, c"RedisModule_RegisterStringConfig")?;
        let load_settings: LoadConfigs = function(get, c"RedisModule_LoadConfigs")?;
        let (name, nobody) = (c"replication-from".as_ptr(), c"".as_ptr());
        if register_setting(context, name, nobody, CONFIG_DEFAULT, show, take, None, null_mut()) != OK
            || load_settings(context) != OK
        {
            return None;
        }
        match function::<RegisterAuthCallback>(get, c"RedisModule_RegisterAuthCallback") {
            Some(register) => register(context, login),
            // The engine starts all the same: `infra up` and `infra status` report this too.
            None => log(
                context,
                c"warning".as_ptr(),
                c"this engine asks no module at a login (Redis 7.2 does): its users may come from anywhere".as_ptr(),
            ),
        }
    }
    Some(())
}

unsafe extern "C" fn no_log_entry(_: *mut Context, _: *mut Text, _: *mut Text, _: c_int) -> c_int {
    OK
}

/// Called at each AUTH, and at each HELLO with AUTH.
unsafe extern "C" fn login(context: *mut Context, user: *mut Text, _: *mut Text, error: *mut *mut Text) -> c_int {
    let Some(engine) = ENGINE.get() else {
        return AUTH_NOT_HANDLED;
    };
    // SAFETY: the engine's own strings and context, for this call.
    unsafe {
        let origin = engine.origin(context);
        if setting().replicas.let_in(engine.bytes(user), origin) {
            return AUTH_NOT_HANDLED;
        }
        (engine.add_log_entry)(context, user, user, LOG_AUTH);
        if !error.is_null() {
            *error = engine.text("-NOPERM this user may not log in from this address");
        }
    }
    AUTH_HANDLED
}

/// Gives the engine the setting's text.
unsafe extern "C" fn show(_: *const c_char, _: *mut c_void) -> *mut Text {
    let Some(engine) = ENGINE.get() else { return null_mut() };
    let mut setting = setting();
    if setting.shown.is_null() {
        // SAFETY: a string without a context belongs to this module until it is freed.
        setting.shown = unsafe { engine.text(&setting.replicas.to_string()) };
    }
    setting.shown
}

/// Takes the setting from the engine: from its file, or by CONFIG SET.
unsafe extern "C" fn take(_: *const c_char, value: *mut Text, _: *mut c_void, error: *mut *mut Text) -> c_int {
    let Some(engine) = ENGINE.get() else { return ERR };
    // SAFETY: the engine's own string, for this call.
    let text = String::from_utf8_lossy(unsafe { engine.bytes(value) }).into_owned();
    match Replicas::read(&text) {
        Ok(replicas) => {
            let mut setting = setting();
            setting.replicas = replicas;
            if !setting.shown.is_null() {
                // SAFETY: `show` made the string, and it is freed once.
                unsafe { (engine.free_string)(null_mut(), setting.shown) };
                setting.shown = null_mut();
            }
            OK
        }
        Err(word) => {
            if !error.is_null() {
                // SAFETY: the engine frees what it is given here.
                unsafe { *error = engine.text(&format!("{word} is no address")) };
            }
            ERR
        }
    }
}

impl Engine {
    /// # Safety
    /// `context` is that of a client's command.
    unsafe fn origin(&self, context: *mut Context) -> Origin {
        let mut info = ClientInfo {
            version: CLIENT_INFO_VERSION,
            flags: 0,
            id: 0,
            address: [0; 46],
            port: 0,
            db: 0,
        };
        // SAFETY: the engine fills a structure of the version that stands in it.
        let answer = unsafe { (self.client_info)(&raw mut info, (self.client_id)(context)) };
        if answer != OK {
            return Origin::Unknown;
        }
        if info.flags & FLAG_UNIX_SOCKET != 0 {
            return Origin::Socket;
        }
        let bytes: Vec<u8> = info
            .address
            .iter()
            .map(|byte| byte.to_ne_bytes()[0])
            .take_while(|byte| *byte != 0)
            .collect();
        let address = std::str::from_utf8(&bytes).ok().and_then(|text| text.parse().ok());
        address.map_or(Origin::Unknown, Origin::Network)
    }

    /// # Safety
    /// `text` is a string of the engine's, and outlives what is given.
    unsafe fn bytes<'a>(&self, text: *const Text) -> &'a [u8] {
        if text.is_null() {
            return &[];
        }
        let mut length = 0;
        // SAFETY: the engine gives a pointer to this number of bytes.
        unsafe {
            let start = (self.string_ptr_len)(text, &raw mut length);
            if start.is_null() {
                return &[];
            }
            std::slice::from_raw_parts(start.cast(), length)
        }
    }

    /// Returns a string without a context.
    unsafe fn text(&self, text: &str) -> *mut Text {
        // SAFETY: the engine copies this number of bytes.
        unsafe { (self.create_string)(null_mut(), text.as_ptr().cast(), text.len()) }
    }
}
