// What {{name}} does, with the types of wit/world.wit. An error that is thrown is the error of the `result`.

export function greet(name) {
  const trimmed = name.trim();
  if (trimmed === "") {
    throw "nobody to greet: the name is empty";
  }
  return `Hello, ${trimmed}!`;
}
