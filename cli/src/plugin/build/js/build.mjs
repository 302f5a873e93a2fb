// Called as: node build.mjs SOURCE WIT-FOLDER WORLD WIT-TEXT OUTPUT-FOLDER

import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { componentize } from '@bytecodealliance/componentize-js';
import { $init, generateTypes } from '@bytecodealliance/jco-transpile/component';

const [source, witPath, world, wit, output] = process.argv.slice(2);

// For editors. From one text: given a folder, the generator does not find it.
await $init;
const types = generateTypes('plugin', {
  wit: { tag: 'source', val: await readFile(wit, 'utf8') },
  world,
  guest: true,
  features: { tag: 'list', val: [] },
});
await mkdir(join(output, 'types'), { recursive: true });
for (const [name, text] of types) {
  await writeFile(join(output, 'types', basename(name)), text);
}

const { component } = await componentize(await readFile(source, 'utf8'), {
  witPath,
  worldName: world,
  sourceName: 'plugin.js',
  // They would import wasi:http, which a host does not have.
  disableFeatures: ['http', 'fetch-event'],
});
await writeFile(join(output, 'component.wasm'), component);
