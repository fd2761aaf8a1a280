// Runs run.py in the 32-bit WebAssembly build of MicroPython: `node wasm.mjs FOLDER MODULE`.
// The folder is copied into the interpreter's own file system, which lies in memory.
import { readdirSync, readFileSync } from "node:fs";
import { loadMicroPython } from "@micropython/micropython-webassembly-pyscript";

const [folder, module] = process.argv.slice(2);
const micropython = await loadMicroPython({ heapsize: 1024 * 1024, stdout: console.log, linebuffer: true });
for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
  const path = `${entry.parentPath}/${entry.name}`;
  const inside = path.slice(folder.length);
  if (entry.isDirectory()) micropython.FS.mkdir(inside);
  else micropython.FS.writeFile(inside, readFileSync(path));
}
micropython.runPython(`import sys; sys.path.insert(0, "/"); import run; run.main("${module}")`);
