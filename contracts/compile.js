// Compiles contracts/*.sol into contracts/build/*.json. How to run it: contracts/README.md.
const crypto = require("crypto");
const fs = require("fs");
const path = require("path");
const solc = require("solc");

const settings = {
  evmVersion: "paris",
  optimizer: { enabled: true, runs: 200 },
  metadata: { bytecodeHash: "none" },
  outputSelection: { "*": { "*": ["abi", "evm.bytecode.object", "evm.deployedBytecode.object"] } },
};

for (const file of fs.readdirSync(__dirname).filter((name) => name.endsWith(".sol")).sort()) {
  const source = fs.readFileSync(path.join(__dirname, file), "utf8");
  const input = { language: "Solidity", sources: { [file]: { content: source } }, settings };
  const output = JSON.parse(solc.compile(JSON.stringify(input)));
  const errors = (output.errors || []).filter((item) => item.severity === "error");
  if (errors.length) {
    throw new Error(errors.map((item) => item.formattedMessage).join("\n"));
  }
  for (const [name, contract] of Object.entries(output.contracts[file])) {
    if (!contract.evm.bytecode.object) {
      continue; // an interface
    }
    const built = {
      contract: name,
      source: file,
      source_sha256: crypto.createHash("sha256").update(source).digest("hex"),
      solc: solc.version(),
      settings,
      abi: contract.abi,
      bytecode: "0x" + contract.evm.bytecode.object,
      deployed_bytecode: "0x" + contract.evm.deployedBytecode.object,
    };
    const target = path.join(__dirname, "build", name + ".json");
    fs.writeFileSync(target, JSON.stringify(built, null, 2) + "\n");
  }
}
