"""The statement that asks PostgreSQL for its catalogue: one round trip, no lock on any relation.

No function that deparses is called, because ``pg_get_viewdef()`` and its like lock what they show.
What a rule or a policy uses is told by ``pg_depend``; what is built in has no dependencies and is
told by the stored tree itself.
"""

from __future__ import annotations

from cachalot.core.sql.volatility import CHANCE_FUNCTIONS, VOLATILE_FUNCTIONS

#: Of more views than these the trees are not looked into beforehand, because that takes long.
MAX_EXAMINED = 1000

# Whatever the session has been told to do with long statements, locks and names. The planner knows
# nothing of the sizes here: one nested loop over ten thousand tables would take minutes.
_PREFIX = "".join(
    f"SET LOCAL {setting}; "
    for setting in (
        "statement_timeout = 0",
        "lock_timeout = 0",
        "search_path = pg_catalog",
        "jit = off",
        "enable_nestloop = off",
        "max_parallel_workers_per_gather = 0",
    )
)
# Objects of the server itself have smaller numbers (FirstNormalObjectId).
_OWN = 16384
_QUERY = """
WITH RECURSIVE checked(objid, type) AS (
    SELECT oid, contypid FROM pg_constraint WHERE contype = 'c' AND contypid >= {own}
    UNION
    SELECT checked.objid, made.of_it FROM checked JOIN (
        SELECT typbasetype, oid FROM pg_type WHERE typbasetype <> 0
        UNION ALL SELECT typelem, oid FROM pg_type WHERE typelem <> 0
        UNION ALL SELECT rngsubtype, rngtypid FROM pg_range
        UNION ALL SELECT a.atttypid, c.reltype
                    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
                   WHERE c.relkind = 'c'
    ) AS made(type, of_it) USING (type)
), relation AS MATERIALIZED (
    SELECT oid, relname, relkind::text FROM pg_class
     WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND relnamespace NOT IN (
        SELECT oid FROM pg_namespace
         WHERE nspname IN ('pg_catalog', 'information_schema', 'pg_toast'))
), routine AS MATERIALIZED (
    SELECT p.*, l.lanname, p.prorettype IN ('trigger'::regtype, 'event_trigger'::regtype) AS fires
      FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang WHERE p.oid >= {own}
), part(classid, objid, owner, kind) AS (
    SELECT 'pg_rewrite'::regclass::oid, oid, ev_class, ev_type::text FROM pg_rewrite
    UNION ALL SELECT 'pg_policy'::regclass, oid, polrelid, 'policy' FROM pg_policy
    UNION ALL SELECT 'pg_attrdef'::regclass, oid, adrelid, 'default' FROM pg_attrdef
    UNION ALL SELECT 'pg_constraint'::regclass, oid, conrelid, 'check' FROM pg_constraint
               WHERE contype = 'c'
    UNION ALL SELECT 'pg_constraint'::regclass, c.objid, a.attrelid, 'check'
                FROM checked c JOIN pg_attribute a ON a.atttypid = c.type
    UNION ALL SELECT 'pg_trigger'::regclass, oid, tgrelid, 'trigger' FROM pg_trigger
               WHERE NOT tgisinternal
), used AS MATERIALIZED (
    SELECT relation.relname, relation.relkind, part.kind, d.refclassid, d.refobjid
      FROM pg_depend d JOIN part USING (classid, objid)
      JOIN relation ON relation.oid = part.owner
     WHERE d.refobjid <> part.owner AND d.refobjid >= {own}
       AND d.refclassid IN ('pg_class'::regclass, 'pg_proc'::regclass, 'pg_operator'::regclass)
), tree AS MATERIALIZED (
    SELECT relation.relname, 'view' AS kind, r.ev_action::text || '' AS nodes
      FROM pg_rewrite r JOIN relation ON relation.oid = r.ev_class AND relation.relkind = 'v'
     WHERE r.ev_type = '1' AND {examined}
    UNION ALL
    SELECT relation.relname, 'policy', concat(p.polqual::text, p.polwithcheck::text)
      FROM pg_policy p JOIN relation ON relation.oid = p.polrelid
)
SELECT 'relation', relname::text, relkind, NULL::text, NULL::text, NULL::text FROM relation
UNION ALL
SELECT DISTINCT 'uses', used.relname, used.relkind, used.kind, relation.relname, relation.relkind
  FROM used JOIN relation ON relation.oid = used.refobjid
 WHERE used.refclassid = 'pg_class'::regclass
UNION ALL
SELECT DISTINCT 'calls', used.relname, used.relkind, used.kind, routine.proname, NULL
  FROM used LEFT JOIN pg_operator o ON o.oid = used.refobjid
                                   AND used.refclassid = 'pg_operator'::regclass
  JOIN routine ON routine.oid = coalesce(o.oprcode, used.refobjid)
 WHERE used.refclassid <> 'pg_class'::regclass
UNION ALL
SELECT 'parent', child.relname, parent.relname, NULL, NULL, NULL
  FROM pg_inherits i JOIN relation parent ON parent.oid = i.inhparent
  JOIN relation child ON child.oid = i.inhrelid
UNION ALL
SELECT 'cascade', parent.relname, child.relname, c.confupdtype::text, NULL, NULL
  FROM pg_constraint c JOIN relation parent ON parent.oid = c.confrelid
  JOIN relation child ON child.oid = c.conrelid
 WHERE c.contype = 'f' AND (c.confdeltype IN ('c', 'n', 'd') OR c.confupdtype IN ('c', 'n', 'd'))
UNION ALL
SELECT 'key', c.relname, a.attname,
       CASE WHEN a.atttypid = 'uuid'::regtype THEN 'uuid'
            WHEN a.attcollation = 0 THEN 'integer' ELSE 'text' END,
       CASE WHEN i.indisprimary THEN i.indnkeyatts::text END, c.oid::text
  FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
  JOIN relation ON relation.oid = c.oid
  JOIN pg_attribute a ON a.attrelid = c.oid
                     AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])
  LEFT JOIN pg_collation l ON l.oid = a.attcollation
 WHERE i.indisunique AND i.indisvalid AND i.indimmediate
   AND (i.indnkeyatts = 1 OR i.indisprimary)
   AND i.indpred IS NULL AND a.attnotnull
   AND c.relkind = 'r' AND NOT (c.relhasrules OR c.relispartition OR c.relhassubclass
                                OR c.relrowsecurity)
   AND (a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'uuid'::regtype)
        OR (a.atttypid IN ('text'::regtype, 'varchar'::regtype) AND l.collisdeterministic))
   AND c.oid NOT IN (
        SELECT inhrelid FROM pg_inherits
        UNION ALL SELECT tgrelid FROM pg_trigger WHERE NOT tgisinternal
        UNION ALL SELECT conrelid FROM pg_constraint
                   WHERE contype = 'f' AND confrelid = conrelid
                     AND (confdeltype IN ('c', 'n', 'd') OR confupdtype IN ('c', 'n', 'd')))
UNION ALL
SELECT 'routine', p.proname, p.lanname, p.provolatile::text,
       CASE WHEN p.prosrc <> '' OR p.lanname <> 'sql' THEN p.prosrc ELSE (
           SELECT concat(CASE WHEN to_jsonb(p.*) ->> 'prosqlbody' ~ ':commandType [2-9]'
                              THEN 'UPDATE' ELSE 'SELECT' END,
                         string_agg(coalesce(' "' || c.relname || '"', ' "' || f.proname || '"()'),
                                    ' '))
             FROM pg_depend d
             LEFT JOIN pg_class c ON c.oid = d.refobjid AND d.refclassid = 'pg_class'::regclass
             LEFT JOIN pg_proc f ON f.oid = d.refobjid AND d.refclassid = 'pg_proc'::regclass
            WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid) END,
       CASE WHEN p.fires THEN 'fires'
            WHEN p.pronargs = 1 AND (SELECT typtype FROM pg_type
                                      WHERE oid = p.proargtypes[0]) = 'c' THEN 'attribute' END
  FROM routine p
 WHERE p.lanname NOT IN ('c', 'internal') OR p.provolatile = 'v' OR p.fires
UNION ALL
SELECT 'alias', o.oprname, routine.proname, 'operator', NULL, NULL
  FROM pg_operator o JOIN routine ON routine.oid = o.oprcode
 WHERE routine.lanname NOT IN ('c', 'internal')
UNION ALL
SELECT 'alias', t.name, routine.proname, c.castcontext::text, NULL, NULL
  FROM pg_cast c JOIN routine ON routine.oid = c.castfunc,
       LATERAL (SELECT typname::text FROM pg_type WHERE oid = c.casttarget
                UNION SELECT format_type(c.casttarget, NULL)) t(name)
 WHERE routine.lanname NOT IN ('c', 'internal')
UNION ALL
SELECT 'alias', t.name, routine.proname, 'domain', NULL, NULL
  FROM checked c
  JOIN pg_depend d ON d.classid = 'pg_constraint'::regclass AND d.objid = c.objid
                  AND d.refclassid = 'pg_proc'::regclass
  JOIN routine ON routine.oid = d.refobjid,
       LATERAL (SELECT typname::text FROM pg_type WHERE oid = c.type
                UNION SELECT format_type(c.type, NULL)) t(name)
UNION ALL
SELECT 'alias', p.proname, routine.proname, 'aggregate', NULL, NULL
  FROM pg_aggregate a JOIN pg_proc p ON p.oid = a.aggfnoid
  JOIN routine ON routine.oid IN (a.aggtransfn, a.aggfinalfn, a.aggmtransfn, a.aggminvtransfn,
                                  a.aggmfinalfn, a.aggcombinefn)
 WHERE a.aggfnoid >= {own}
UNION ALL
SELECT 'event', routine.proname, NULL, NULL, NULL, NULL
  FROM pg_event_trigger e JOIN routine ON routine.oid = e.evtfoid
UNION ALL
SELECT 'setting', s.setdatabase::text, s.setrole::text, s.setconfig::text, NULL, NULL
  FROM pg_db_role_setting s
 WHERE s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
UNION ALL
SELECT 'built in', proname, oid::text, NULL, NULL, NULL FROM pg_proc
 WHERE oid < {own} AND (provolatile = 'v' OR proname = ANY ('{{{named}}}'))
UNION ALL
SELECT 'system', relname, oid::text, NULL, NULL, NULL FROM pg_class
 WHERE oid < {own} AND relkind IN ('r', 'v')
UNION ALL
SELECT 'tree', tree.relname, tree.kind,
       (SELECT string_agg(left(x, 12), ',') FROM unnest(string_to_array(nodes, ' :funcid ')) x),
       (SELECT string_agg(left(x, 12), ',') FROM unnest(string_to_array(nodes, ' :relid ')) x),
       concat_ws(' ',
           (SELECT string_agg('op' || split_part(left(x.text, 4), ' ', 1), ' ')
              FROM unnest(string_to_array(nodes, '{{SQLVALUEFUNCTION :op '))
                   WITH ORDINALITY x(text, n) WHERE n > 1),
           CASE WHEN strpos(nodes, '{{TABLESAMPLECLAUSE') > 0 THEN 'sample' END,
           CASE WHEN strpos(nodes, ':hasForUpdate true') > 0 THEN 'lock' END,
           CASE WHEN strpos(nodes, '{{COERCEVIAIO') > 0
                THEN CASE WHEN nodes ~ ':resulttype (1082|1083|1114|1184|1266) '
                          THEN 'clock' END END)
  FROM tree
UNION ALL
SELECT 'unexamined', relname, NULL, NULL, NULL, NULL FROM relation
 WHERE relkind = 'v' AND NOT {examined}
"""


def statements(is_thorough: bool) -> str:
    """Return the statements whose last one gives the catalogue.

    The trees of views are looked into if there are few, or if ``is_thorough``.
    """
    few = f"(SELECT count(*) FROM relation WHERE relkind = 'v') <= {MAX_EXAMINED}"
    named = ",".join(sorted(VOLATILE_FUNCTIONS | CHANCE_FUNCTIONS))
    return _PREFIX + _QUERY.format(own=_OWN, named=named, examined="true" if is_thorough else few)
