//! One plugin, three kinds: a native library, a core wasm module and a component, from this source.
//!
//! What the plugin does stands first; how each kind is called follows.

/// Longest name that gets a greeting, in characters.
const NAME_MAX: usize = 100;

fn greeting(name: &str) -> Result<String, String> {
    let name = name.trim();
    if name.is_empty() {
        return Err("nobody to greet: the name is empty".to_owned());
    }
    if name.chars().count() > NAME_MAX {
        return Err(format!("the name has more than {NAME_MAX} characters"));
    }
    Ok(format!("Hello, {name}!"))
}

/// Native library and core module: JSON in, JSON out.
#[cfg(feature = "bytes")]
mod bytes {
    use hotcell_plugin::{Level, json, log};
    use serde::{Deserialize, Serialize};

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Person {
        name: String,
    }

    #[derive(Serialize)]
    struct Greeting {
        greeting: String,
    }

    fn greet(person: Person) -> Result<Greeting, String> {
        super::greeting(&person.name).map(|greeting| Greeting { greeting })
    }

    /// Greets into the host's log as well, which takes the permission for the host call `log`.
    fn announce(person: Person) -> Result<Greeting, String> {
        let greeting = super::greeting(&person.name)?;
        log(Level::Info, &greeting).map_err(|error| error.to_string())?;
        Ok(Greeting { greeting })
    }

    hotcell_plugin::export! {
        greet => json(greet),
        announce => json(announce),
    }
}

/// Component: typed values, as `wit/greet.wit` describes them.
#[cfg(feature = "component")]
mod component {
    wit_bindgen::generate!({ world: "hotcell:greet/greeter", path: ["../../sdk/wit", "wit"], generate_all });

    use exports::hotcell::greet::kitchen::{Guest as Kitchen, GuestPan, Order, Pan, PanBorrow, Tray};
    use hotcell::plugin::host::{HostError, host_call};

    struct Greeter;

    impl Guest for Greeter {
        fn greet(who: Person) -> Result<String, String> {
            super::greeting(&who.name)
        }

        fn announce(who: Person) -> Result<String, String> {
            let greeting = super::greeting(&who.name)?;
            // A greeting holds a name, and a name may hold anything: quote what JSON would take for its own.
            let message = greeting.replace('\\', "\\\\").replace('"', "\\\"").replace(char::is_control, " ");
            let record = format!(r#"{{"level":"info","message":"{message}"}}"#);
            match host_call("log", record.as_bytes()) {
                Ok(_) => Ok(greeting),
                Err(HostError::Refused) => Err("the host refused the call".to_owned()),
                Err(HostError::Failed(text)) => Err(format!("the host call failed: {text}")),
            }
        }
    }

    impl Kitchen for Greeter {
        type Pan = IronPan;

        fn roundtrip(tray: Tray) -> Tray {
            tray
        }

        fn nothing() {}

        fn divide(dividend: i32, divisor: i32) -> Result<i32, String> {
            dividend.checked_div(divisor).ok_or_else(|| format!("{dividend} / {divisor} has no answer"))
        }

        fn bill(orders: Vec<Order>) -> (u32, Option<String>) {
            let cents = |order: &Order| match order {
                Order::Water => 0,
                Order::Coffee(size) => 200 + 50 * (*size as u32),
                Order::Soup((_, cents)) => *cents,
            };
            let total = orders.iter().map(cents).fold(0_u32, u32::saturating_add);
            (total, (total == 0).then(|| "on the house".to_owned()))
        }

        fn complain(order: Order) -> Result<(), Order> {
            Err(order)
        }

        fn wash(_: Pan) {}

        fn weigh(pan: PanBorrow<'_>) -> u32 {
            pan.get::<IronPan>().grams
        }
    }

    struct IronPan {
        grams: u32,
    }

    impl GuestPan for IronPan {
        fn new(grams: u32) -> Self {
            Self { grams }
        }
    }

    export!(Greeter);
}
