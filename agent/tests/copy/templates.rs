//! The commands that write, with places for what a random command has there: `$x` a key that is
//! mostly of type x, `#` a small number, `%` a member or field, `@` a database, `~` the port of another
//! server, `^` a payload of DUMP. Times to live are long or over, so that no key expires by itself between two looks.

/// Letters of the types: strings, numbers, bitmaps, HyperLogLogs, lists, sets, hashes, sorted sets,
/// places, streams, streams with small ids, vectors, and keys that are there seldom.
pub const TYPES: &[char] = &['s', 'i', 'b', 'p', 'l', 'e', 'h', 'z', 'g', 'x', 'y', 'v', 'n'];

/// Commands that give the others something to change.
#[rustfmt::skip]
pub const SETTINGS: &[&str] = &[
    "SET $s value#", "SET $i #", "SETBIT $b # 1", "PFADD $p % %", "RPUSH $l % % %", "SADD $e % % %",
    "HSET $h % # % #", "ZADD $z 1 % 2 %", "GEOADD $g 1.# 2.# %", "XADD $x * field %",
    "XGROUP CREATE $x group 0 MKSTREAM", "XREADGROUP GROUP group reader STREAMS $x >", "EXPIRE $s 1000",
    "HEXPIRE $h 1000 FIELDS 1 %", "XADD $y 0-# field %",
    "XGROUP CREATE $y group 0 MKSTREAM", "XREADGROUP GROUP group reader# STREAMS $y >", "DEL $y", "DEL $n",
];

#[rustfmt::skip]
pub const TEMPLATES: &[&str] = &[
    // strings
    "SET $s value#", "SET $i #", "SET $s value# EX 1000", "SET $s value# GET", "SET $s value# NX",
    "SETEX $s 1000 value#", "PSETEX $s 1000000 value#", "SETNX $s value#", "GETSET $s value#", "GETDEL $s",
    "GETEX $s EX 2000", "GETEX $s PERSIST", "GETEX $s", "APPEND $s #", "INCR $i", "DECR $i", "INCRBY $i #",
    "DECRBY $i #", "INCRBYFLOAT $i 0.5", "SETRANGE $s # x", "MSET $s # $i #", "MSETNX $n # $n #",
    "SETNX $n value#", "DEL $n",
    // bitmaps and HyperLogLogs
    "SETBIT $b # 1", "SETBIT $b # 0", "BITOP AND $b $b $b", "BITOP NOT $b $b", "BITFIELD $b SET u8 # #",
    "BITFIELD $b INCRBY u8 # 1", "BITFIELD $b GET u8 #", "PFADD $p % %", "PFMERGE $p $p $p", "PFCOUNT $p",
    "PFCOUNT $p $p",
    // any type
    "DEL $s", "DEL $l $e", "UNLINK $h $z", "EXPIRE $s 1000", "EXPIRE $l 2000 NX", "EXPIRE $e 3000 GT",
    "EXPIRE $h -1", "PEXPIRE $z 1000000", "PEXPIRE $x 2000000 XX", "EXPIREAT $s 4000000000", "EXPIREAT $l 1",
    "PEXPIREAT $e 4000000000000", "PERSIST $s", "PERSIST $h", "RENAME $s $s", "RENAME $l $l",
    "RENAMENX $e $e", "RENAMENX $x $x", "COPY $s $s", "COPY $z $z REPLACE", "COPY $h $h DB @ REPLACE",
    "MOVE $s @", "MOVE $l @", "MOVE $x @", "SORT $e ALPHA STORE $l", "SORT $l ALPHA", "SORT $z ALPHA STORE $l",
    "RESTORE $s 0 ^ REPLACE", "RESTORE $n 0 ^", "MIGRATE 127.0.0.1 ~ $s 0 1000 REPLACE",
    "MIGRATE 127.0.0.1 ~  0 1000 REPLACE KEYS $l $h", "MIGRATE 127.0.0.1 ~ $e 0 1000 COPY REPLACE",
    // lists
    "LPUSH $l %", "RPUSH $l % %", "LPUSHX $l %", "RPUSHX $l %", "LPOP $l", "RPOP $l #", "LREM $l 0 %",
    "LSET $l # %", "LTRIM $l 0 #", "LINSERT $l BEFORE % %", "LMOVE $l $l LEFT RIGHT", "RPOPLPUSH $l $l",
    "LMPOP 2 $l $l LEFT COUNT 2", "BLPOP $l $l 0.01", "BRPOP $l $l 0.01", "BLMOVE $l $l LEFT LEFT 0.01",
    "BRPOPLPUSH $l $l 0.01", "BLMPOP 0.01 2 $l $l RIGHT",
    // sets
    "SADD $e % %", "SREM $e %", "SPOP $e", "SPOP $e 2", "SMOVE $e $e %", "SDIFFSTORE $e $e $e",
    "SINTERSTORE $e $e $e", "SUNIONSTORE $e $e $e",
    // hashes
    "HSET $h % #", "HMSET $h % # % #", "HSETNX $h % #", "HDEL $h %", "HDEL $h % %", "HINCRBY $h % #",
    "HINCRBYFLOAT $h % 0.5", "HEXPIRE $h 1000 FIELDS 1 %", "HEXPIRE $h 0 FIELDS 1 %",
    "HPEXPIRE $h 1000000 NX FIELDS 1 %", "HEXPIREAT $h 4000000000 FIELDS 1 %",
    "HPEXPIREAT $h 4000000000000 FIELDS 2 % %", "HPERSIST $h FIELDS 1 %", "HGETDEL $h FIELDS 1 %",
    "HGETEX $h EX 1000 FIELDS 1 %", "HSETEX $h EX 1000 FIELDS 1 % #",
    // sorted sets
    "ZADD $z # %", "ZADD $z GT CH # %", "ZADD $z XX INCR # %", "ZINCRBY $z # %", "ZREM $z %",
    "ZREMRANGEBYSCORE $z 0 #", "ZREMRANGEBYRANK $z 0 #", "ZREMRANGEBYLEX $z - [%", "ZREMRANGEBYLEX $z - [m1",
    "ZPOPMIN $z", "ZPOPMAX $z 2", "ZMPOP 2 $z $z MIN", "BZMPOP 0.01 2 $z $z MAX", "BZPOPMIN $z $z 0.01",
    "BZPOPMAX $z $z 0.01", "ZDIFFSTORE $z 2 $z $z", "ZINTERSTORE $z 2 $z $z", "ZUNIONSTORE $z 2 $z $z",
    "ZRANGESTORE $z $z 0 #",
    // places
    "GEOADD $g 1.# 2.# %", "GEORADIUS $g 1 2 900 km STORE $z", "GEORADIUS $g 1 2 900 km",
    "GEORADIUSBYMEMBER $g % 900 km STOREDIST $z", "GEOSEARCHSTORE $z $g FROMLONLAT 1 2 BYRADIUS 900 km ASC",
    // streams
    "XADD $x * field %", "XADD $x MAXLEN 3 * field %", "XADD $x NOMKSTREAM * field %", "XTRIM $x MAXLEN #",
    "XDEL $y 0-#", "XADD $y 0-# field %", "XGROUP CREATE $y group 0 MKSTREAM",
    "XREADGROUP GROUP group reader# STREAMS $y >", "XSETID $x 99999999999999-#", "XGROUP CREATE $x group 0 MKSTREAM",
    "XGROUP CREATECONSUMER $x group reader#", "XGROUP DELCONSUMER $x group reader#", "XGROUP SETID $x group 0",
    "XGROUP DESTROY $x group", "XREADGROUP GROUP group reader# STREAMS $x >",
    "XREADGROUP GROUP group reader COUNT 1 NOACK STREAMS $x $x > >",
    "XREADGROUP GROUP group reader BLOCK 10 STREAMS $x >", "XACK $y group 0-#", "XCLAIM $y group reader# 0 0-#",
    "XAUTOCLAIM $y group reader# 0 0",
    // vectors, where the engine has them
    "VADD $v VALUES 2 0.# 1 %", "VREM $v %", "VSETATTR $v % {}",
    // functions and whole databases
    "FUNCTION DELETE none", "FUNCTION FLUSH", "FUNCTION LOAD none", "FUNCTION RESTORE none",
    "FLUSHDB", "FLUSHALL", "SWAPDB @ @",
    // reads, which mark nothing
    "GET $s", "HGETALL $h", "LRANGE $l 0 -1", "SINTERCARD 2 $e $e", "XRANGE $x - +", "ZRANGE $z 0 -1",
];
