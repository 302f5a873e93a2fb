// How full the filesystems of a node are, by df(1).

import { run } from 'windlass:host/commands@0.1.0';

const COLUMNS = '--output=source,size,used,avail,target';

/** The interface `disk` of wit/world.wit. An error is thrown as a case of `usage-error`. */
export const disk = {
  usage(path) {
    const output = df(path);
    const { tag, val } = output.status;
    if (tag !== 'code' || val !== 0) {
      const message = text(output.stderr).trim();
      if (message.includes('No such file or directory')) {
        throw { tag: 'not-found', val: message };
      }
      throw { tag: 'failed', val: `df: ${tag} ${val}: ${message}` };
    }
    return parse(text(output.stdout));
  },
};

function df(path) {
  try {
    return run({ program: 'df', args: ['-B1', COLUMNS, path], stdin: undefined, timeoutMs: undefined });
  } catch (error) {
    const { tag, val } = error.payload ?? {};
    if (tag === 'denied' || tag === 'not-found') {
      throw { tag, val };
    }
    throw { tag: 'failed', val: `df did not run: ${tag ?? error}${val === undefined ? '' : ` ${val}`}` };
  }
}

function text(bytes) {
  return new TextDecoder().decode(bytes);
}

/** Read a headline and a line such as `/dev/sda1 1000 400 550 /srv`. Names may hold spaces. */
export function parse(output) {
  const line = output.split('\n')[1] ?? '';
  const words = line.split(/\s+/).filter((word) => word !== '');
  const isNumber = (word) => /^\d+$/.test(word);
  // The first three numbers in a row are the sizes: what is before and behind them are names.
  for (let at = 1; at + 3 < words.length; at += 1) {
    const sizes = words.slice(at, at + 3);
    if (sizes.every(isNumber)) {
      // 64-bit integers are BigInt.
      const [sizeBytes, usedBytes, availableBytes] = sizes.map(BigInt);
      return {
        filesystem: words.slice(0, at).join(' '),
        sizeBytes,
        usedBytes,
        availableBytes,
        mountedOn: words.slice(at + 3).join(' '),
      };
    }
  }
  throw { tag: 'failed', val: `df printed \`${line}\`, which is not understood` };
}
