//! What {{name}} does, with the types of wit/world.wit. `hotcell plugin test` runs it in a confined worker.

wit_bindgen::generate!({ path: "wit", world: "{{name}}" });

struct Plugin;

impl Guest for Plugin {
    fn greet(name: String) -> Result<String, String> {
        let name = name.trim();
        if name.is_empty() {
            return Err("nobody to greet: the name is empty".to_owned());
        }
        Ok(format!("Hello, {name}!"))
    }
}

export!(Plugin);
